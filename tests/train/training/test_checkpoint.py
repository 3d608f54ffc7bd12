"""A checkpoint restores exactly what was saved, and damage is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from corpus_factory import utterances
from unit_factory import train_fold

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.training.checkpoint import load_best, resume, save_best, save_checkpoint
from mfhca_train.training.unit import CHECKPOINT

HERE = {"versions": {"torch": "2.8.0"}, "cpu": "x86_64 AVX2", "device": "cpu"}


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    work = tmp_path / ".unit.partial"
    work.mkdir(parents=True)
    (work / "checkpoint.safetensors").write_bytes(b"torn")
    with pytest.raises(MfhcaError, match=r"checkpoint.safetensors: cannot be resumed .* delete"):
        train_fold(tmp_path, utterances())


def trained(steps: int, seed: int = 0) -> tuple[torch.nn.Module, torch.optim.Adam]:
    """A linear layer and its optimiser after some steps."""
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    for step in range(steps):
        train_step(model, optimiser, step)
    return model, optimiser


def train_step(model: torch.nn.Module, optimiser: torch.optim.Adam, step: int) -> None:
    optimiser.zero_grad()
    model(torch.full((4, 3), 1.0 + step)).square().mean().backward()
    optimiser.step()


def test_a_resumed_training_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    history = [{"epoch": 1, "train_loss": 0.1}, {"epoch": 2, "train_loss": 1 / 3}]
    model, optimiser = trained(2)
    save_checkpoint(tmp_path, model, optimiser, history, "run", HERE, "digest")
    other, its_optimiser = trained(0, seed=1)
    assert resume(tmp_path, other, its_optimiser, "run", HERE) == (history, "digest")
    for step in (2, 3):
        train_step(model, optimiser, step)
        train_step(other, its_optimiser, step)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_without_a_checkpoint_training_starts_afresh(tmp_path: Path) -> None:
    model, optimiser = trained(1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert resume(tmp_path, model, optimiser, "run", HERE) == ([], "")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, *trained(1), [], "run", HERE, "digest")
    with pytest.raises(
        MfhcaError, match="it belongs to another fold or seed, or to a run with other settings or data"
    ):
        resume(tmp_path, *trained(0), "other", HERE)


@pytest.mark.parametrize(
    "change", [{"cpu": "x86_64 AVX512"}, {"versions": {"torch": "2.9.0"}}, {"accelerator": "X"}]
)
def test_a_checkpoint_of_another_environment_is_not_resumed(
    change: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, *trained(1), [{"epoch": 1}], "run", HERE, "digest")
    model, optimiser = trained(0, seed=1)
    before = model.weight.clone()
    with caplog.at_level("WARNING", "mfhca"):
        assert resume(tmp_path, model, optimiser, "run", HERE | change) == ([], "")
    assert torch.equal(model.weight, before)
    assert "is trained from its first epoch again" in caplog.text


def test_any_flipped_byte_of_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, *trained(1), [{"epoch": 1}], "run", HERE, "digest")
    path = tmp_path / CHECKPOINT
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(MfhcaError, match=r"checkpoint\.safetensors: cannot be resumed .*; delete"):
            resume(tmp_path, *trained(0), "run", HERE)


def test_best_weights_of_another_file_or_epoch_are_refused(tmp_path: Path) -> None:
    model, _ = trained(1)
    digest = save_best(tmp_path, model, 4)
    other, _ = trained(0, seed=1)
    load_best(tmp_path, other, 4, digest, "cpu")
    assert torch.equal(other.weight, model.weight)
    with pytest.raises(MfhcaError, match=r"best\.safetensors: cannot be used \(not of epoch 5\)"):
        load_best(tmp_path, other, 5, digest, "cpu")
    save_best(tmp_path, trained(2)[0], 4)
    with pytest.raises(MfhcaError, match=r"best\.safetensors: cannot be used \(damaged"):
        load_best(tmp_path, other, 4, digest, "cpu")
