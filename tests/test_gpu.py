"""The program for accelerators: its logic on the CPU, and the network on tensors that belong to another device."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bench import accelerator, gpu

VARIANTS = ("paper", "co-attention", "preset small")  # each takes seconds


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_a_trial_on_the_cpu_agrees_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "QUICK", ("preset small",))
    done = CliRunner().invoke(gpu.main, ["--device", "cpu", "--quick", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results["agreement"] == {"preset small": {"loss": 0.0, "gradients": 0.0}}
    assert results["deterministic"] == {"preset small": True}
    assert results["extraction"]["float32"]["error"] == 0
    assert 0 < results["extraction"]["bfloat16"]["error"] < accelerator.TOLERANCE["bfloat16"]
    assert set(results["steps"]) == {"plain", "channels_last", "bfloat16"}
    assert "Everything is within its tolerance." in (tmp_path / "gpu.md").read_text()


def test_what_is_outside_its_tolerance_is_a_problem() -> None:
    results = {
        "extraction": {"tf32": {"error": 0.03}, "float32": {"error": float("nan")}},
        "agreement": {"paper": {"loss": 1e-6, "gradients": 0.01}},
        "deterministic": {"paper": False},
    }
    assert gpu.problems(results) == [
        "extraction, tf32: relative error 0.03, tolerance 0.02",
        "extraction, float32: relative error nan, tolerance 0.001",
        "paper: relative error of gradients 0.01, tolerance 0.001",
        "paper: two equal runs differ",
    ]


def test_a_wrong_gradient_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def epoch(_settings: object, device: str, *_sizes: int) -> object:
        gradient = torch.tensor([1.0, 1.0 if device == "cpu" else 1.1])
        return [2.0], {"weight": gradient, "bias": torch.tensor([1e-9 if device == "cpu" else -1e-9])}

    monkeypatch.setattr(accelerator, "epoch", epoch)
    (found,) = accelerator.agreement("cuda", 1, 2, ["paper"]).values()
    assert found["loss"] == 0
    assert found["gradients"] == pytest.approx(0.1 / 2**0.5, rel=1e-3)  # the tiny bias counts as rounding


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_stays_on_its_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of torch's device `meta` have no values; an operation that mixes them with the CPU's is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # knows no such device
    model = accelerator.make_network(accelerator.SETTINGS[name], "meta")
    loss = accelerator.loss_of(model, accelerator.make_batch(3, "meta"), "meta")
    loss.backward()
    assert {p.grad.device.type for p in model.parameters() if p.grad is not None} == {"meta"}


def test_without_a_device_it_says_how_to_try_it() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    done = CliRunner().invoke(gpu.main, ["--device", "cuda"])
    assert done.exit_code == 1
    assert "--device cpu --quick tries the program" in done.output
