"""Compares training steps of the full default model with `model.mask_padding` on and off.

    python -m bench.mask    # writes bench/mask.json

Every second segment ends in padding. The variants take turns on one thread; CPU time is measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.timing import Spread, in_turns, ratios

STORED = Path(__file__).with_suffix(".json")
BATCH, ROUNDS = 8, 5


def step(masked: bool, batch: int) -> Callable[[], float]:
    """A function that trains for one step and returns its CPU seconds."""
    import torch
    from torch.nn import functional

    from mfhca_train.config.settings import ModelConfig
    from mfhca_train.model.network import MFHCA
    from mfhca_train.training.process import prepare_process

    prepare_process(threads=1)
    torch.manual_seed(0)
    model = MFHCA(ModelConfig(mask_padding=masked), 4).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-5)
    spec, ssl, label = torch.randn(batch, 1, 300, 200), torch.randn(batch, 149, 768), torch.arange(batch) % 4
    share = 1 - 0.5 * (torch.arange(batch) % 2)  # of real frames
    valid = (300 * share).long(), (149 * share).long()

    def run() -> float:
        start = time.process_time()
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(model(spec, ssl, *valid).logits, label).backward()
        optimiser.step()
        return time.process_time() - start

    return run


def measure() -> dict[str, Any]:
    """CPU seconds of a step of both variants, and their ratio in each round."""
    cost = in_turns({"on": step(True, BATCH), "off": step(False, BATCH)}, ROUNDS)
    spreads = {name: asdict(Spread.of(values)) for name, values in cost.items()}
    quotient = asdict(Spread.of(ratios(cost["on"], cost["off"])))
    return {"batch": BATCH, "cpu_seconds": spreads, "ratio": quotient}


if __name__ == "__main__":
    STORED.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
