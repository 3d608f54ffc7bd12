"""The training steps to compare: the trainer's, ours in plain torch, the released code's. Run by `variants`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.channel import Channel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mfhca_train.data.batch import Batch
    from mfhca_train.data.corpus import Corpus

LEARNING_RATE = 1e-5
PASSES = 200  # over the data, more than any turn needs


def open_corpus(manifest: str, cache: str, kind: type[Corpus] | None = None) -> Corpus:
    """The corpus that `synthetic.training_corpus` wrote, as the trainer opens it."""
    from mfhca_cache.manifest.manifest import read_manifest
    from mfhca_train.data.corpus import Corpus
    from mfhca_train.data.inputs import choose_recipes

    table = read_manifest(Path(manifest))
    label_set = table.label_set()
    return (kind or Corpus)(choose_recipes(Path(cache), "both"), table.select(label_set), label_set)


def paced(channel: Channel) -> type[Corpus]:
    """A corpus with endless training batches, which waits after as many as the parent has asked for.

    So the trainer itself is measured, whatever it does with a batch: a turn lasts from handing out
    a batch until the n-th batch after it is ready, which is n steps and n readings.
    """
    from mfhca_train.data.corpus import Corpus

    class Paced(Corpus):
        def batches(self, segments: Any, order: Any, *args: Any, **options: Any) -> Iterator[Batch]:
            left, start = 0, None
            for batch in super().batches(segments, np.tile(order, PASSES), *args, **options):
                if left == 0:
                    channel.send({} if start is None else {"seconds": time.perf_counter() - start})
                    left, start = channel.receive()["do"], time.perf_counter()
                left -= 1
                yield batch

    return Paced


def trainer(
    channel: Channel, threads: int, manifest: str, cache: str, settings: Mapping[str, Any], folder: str
) -> None:
    """A fold as `cv` trains it: prepares the process, then calls `fit` with the settings, in `folder`."""
    from mfhca_train.training import process

    process.prepare_process(threads)
    from mfhca_train.config.parse import with_settings
    from mfhca_train.config.settings import Config
    from mfhca_train.data.folds import make_folds
    from mfhca_train.training.fit import fit

    config = with_settings(Config(), settings)
    with open_corpus(manifest, cache, paced(channel)) as corpus:
        fold = make_folds(corpus.utterances, "strict", config.train)[0]
        fit(corpus, fold, 0, config, Path(folder) / "fold")


def endless_batches(corpus: Corpus, size: int) -> Iterator[Batch]:
    """Batches of the whole corpus in a random order, normalised as in the trainer, endlessly."""
    from mfhca_train.config.settings import Config
    from mfhca_train.training.fit import normalisers

    everyone = np.arange(len(corpus.utterances))
    segments = corpus.segments(everyone)
    order = np.random.default_rng(0).permutation(len(segments))
    scale = normalisers(corpus, everyone, Config())
    return corpus.batches(segments, np.tile(order, PASSES), size, scale)


def switch_off_fused() -> None:
    """Makes the model use its plain equations, and any use of the fast code an error."""
    import torch

    from mfhca_train.model import cpu

    def refuse(*_: object) -> None:
        raise AssertionError("fused code ran in the plain model")

    os.environ[cpu.PLAIN] = "1"
    ours = [module for name, module in sys.modules.items() if name.startswith("mfhca_train.")]
    base = torch.autograd.Function
    for value in [value for module in ours for value in vars(module).values()]:
        if isinstance(value, type) and issubclass(value, base) and value is not base:
            value.apply = refuse  # type: ignore[method-assign]


def plain(channel: Channel, threads: int, manifest: str, cache: str, batch_size: int) -> None:
    """Our model in plain eager float32, NCHW, with torch's Adam and the system's allocator."""
    import torch
    from torch.nn import functional

    from mfhca_train.config.settings import ModelConfig
    from mfhca_train.model.network import MFHCA

    torch.set_num_threads(threads)
    switch_off_fused()
    corpus = open_corpus(manifest, cache)
    model = MFHCA(ModelConfig(), len(corpus.classes)).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    batches = endless_batches(corpus, batch_size)

    def step() -> None:
        batch = next(batches)
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(model(batch.spec, batch.ssl).logits, batch.label).backward()
        optimiser.step()

    channel.serve(step)


def released(
    channel: Channel, threads: int, batch_size: int, passes: int = 1, encoder: str | None = None
) -> None:
    """The released head on random images, with random hidden states or those of a jointly trained HuBERT.

    Args:
        channel, threads: of the process.
        batch_size: segments of a pass.
        passes: forward and backward passes per step, whose gradients are accumulated.
        encoder: "base", or "tiny" for quick runs.
    """
    import torch
    from torch.nn import functional

    from bench.released import INPUT, LEARNING_RATE, Released

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    modules: list[nn.Module] = [Released().train()]
    image = torch.randn(batch_size, *INPUT)
    label = torch.arange(batch_size) % 4
    if encoder is None:
        states = torch.randn(batch_size, 149, 768)
    else:
        from transformers import HubertConfig, HubertModel

        small: dict[str, Any] = {"num_hidden_layers": 1, "conv_dim": [32] * 7} if encoder == "tiny" else {}
        modules.append(HubertModel(HubertConfig(**small)).train())  # its dropout and masking are on, as there
        audio = torch.randn(batch_size, 48_000)
    optimiser = torch.optim.AdamW([p for m in modules for p in m.parameters()], lr=LEARNING_RATE)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        for _ in range(passes):
            hidden = states if encoder is None else modules[1](audio).last_hidden_state
            (functional.cross_entropy(modules[0](image, hidden), label) / passes).backward()
        optimiser.step()

    channel.serve(step)


def agreement(channel: Channel, threads: int, manifest: str, cache: str, batch_size: int) -> None:
    """Errors of loss and gradients of our fused and plain float32 steps relative to float64.

    Sends relative errors: of the loss, and the maximum over all parameters' gradients. A gradient whose
    norm is below a thousandth of the largest is compared with that (before batch normalisation biases
    have a gradient of exactly zero, up to rounding noise).
    """
    import torch
    from torch.nn import functional

    from mfhca_train.config.settings import ModelConfig
    from mfhca_train.model.network import MFHCA
    from mfhca_train.training import process

    process.prepare_process(threads)
    with open_corpus(manifest, cache) as corpus:
        batch = next(endless_batches(corpus, batch_size))
        torch.manual_seed(0)
        start = MFHCA(ModelConfig(dropout=0.0), len(corpus.classes)).state_dict()

    def gradients(dtype: torch.dtype) -> tuple[float, dict[str, Tensor]]:
        assert batch.spec is not None
        assert isinstance(batch.ssl, torch.Tensor)
        model = MFHCA(ModelConfig(dropout=0.0), len(corpus.classes)).train()
        model.load_state_dict(start)
        model.to(dtype)
        loss = functional.cross_entropy(model(batch.spec.to(dtype), batch.ssl.to(dtype)).logits, batch.label)
        loss.backward()
        return float(loss), {n: p.grad.double() for n, p in model.named_parameters() if p.grad is not None}

    ours, ours64 = gradients(torch.float32), gradients(torch.float64)
    switch_off_fused()
    eager, exact = gradients(torch.float32), gradients(torch.float64)
    least = 1e-3 * max(float(g.norm()) for g in exact[1].values())

    def errors(found: tuple[float, dict[str, Tensor]]) -> dict[str, float]:
        assert found[1].keys() == exact[1].keys()
        worst = max(
            float((g - exact[1][n]).norm()) / max(float(exact[1][n].norm()), least)
            for n, g in found[1].items()
        )
        return {"loss": abs(found[0] - exact[0]) / abs(exact[0]), "gradients": worst}

    channel.send({"ours": errors(ours), "plain": errors(eager), "ours64": errors(ours64)})
