"""One fold: what it learns from, what it may not see, and that it survives being stopped."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from corpus_factory import SMALL, manifest_of, request, utterances, write_features
from places import FACTORIES
from safetensors.torch import load_file
from unit_factory import train_fold

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import make_folds
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.training.fit import best_row, derived_seed, fit


def history(unit: Path) -> list[dict[str, str]]:
    with open(unit / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("honest", ["strict", "column"])
def test_nothing_of_the_test_speaker_reaches_an_honest_fold(tmp_path: Path, honest: str) -> None:
    """Labels permuted and features replaced by noise: the weights are the same bits."""
    sides = {"s0": "test", "s1": "dev", "s2": "train", "s3": "train"}
    rows = [replace(u, fold=sides[u.speaker]) for u in utterances()]
    at_s0 = [u for u in rows if u.speaker == "s0"]
    turned = [replace(u, emotion=v.emotion) for u, v in zip(at_s0, [*at_s0[1:], at_s0[0]], strict=True)]
    assert [u.emotion for u in turned] != [u.emotion for u in at_s0]
    other = [*turned, *(u for u in rows if u.speaker != "s0")]
    write_features(tmp_path / "b" / "cache", rows, noise_for="s0")
    (tmp_path / "a").mkdir()
    for protocol in (honest, "oracle-matched"):
        a, plain = train_fold(tmp_path / "a", rows, protocol, f"unit-{protocol}")
        b, changed = train_fold(tmp_path / "b", other, protocol, f"unit-{protocol}")
        same = (plain / "best.safetensors").read_bytes() == (changed / "best.safetensors").read_bytes()
        if protocol == honest:
            assert same
            assert (plain / "history.csv").read_bytes() == (changed / "history.csv").read_bytes()
            assert (plain / "predictions.csv").read_bytes() != (changed / "predictions.csv").read_bytes()
            assert a["selected_on"] == b["selected_on"] == "validation"
        else:  # the oracle looks at the test speaker, by design: then the check above can fail
            assert history(plain) != history(changed)
            assert a["selected_on"] == "test"


def test_training_speakers_do_reach_the_weights(tmp_path: Path) -> None:
    """The counterpart: noise in a training speaker changes them."""
    rows = utterances()
    write_features(tmp_path / "b" / "cache", rows, noise_for="s3")
    (tmp_path / "a").mkdir()
    _, plain = train_fold(tmp_path / "a", rows)
    _, changed = train_fold(tmp_path / "b", rows)
    assert (plain / "best.safetensors").read_bytes() != (changed / "best.safetensors").read_bytes()


def test_the_selected_epoch_is_the_best_of_the_history(tmp_path: Path) -> None:
    result, unit = train_fold(tmp_path, utterances(), train__epochs="5")
    rows = history(unit)
    score = [float(r["validation_wa"]) + float(r["validation_ua"]) for r in rows]
    assert score[result["best_epoch"] - 1] == max(score)
    assert (result["epochs"], result["stopped_by"]) == (5, "epoch limit")


def test_ties_go_to_the_lower_loss_and_then_the_earlier_epoch() -> None:
    def row(epoch: int, wa: float, loss: float) -> dict[str, float]:
        return {"epoch": epoch, "validation_wa": wa, "validation_ua": wa, "validation_loss": loss}

    assert best_row([row(1, 0.5, 1), row(2, 0.7, 2), row(3, 0.7, 1), row(4, 0.7, 1)])["epoch"] == 3


def test_patience_ends_training(tmp_path: Path) -> None:
    result, _ = train_fold(tmp_path, utterances(), train__epochs="40", train__patience="2", train__lr="1e-9")
    assert result["epochs"] == result["best_epoch"] + 2 < 40
    assert result["stopped_by"] == "patience"


def test_a_finished_unit_is_not_trained_again(tmp_path: Path) -> None:
    first, unit = train_fold(tmp_path, utterances())
    stamp = (unit / "best.safetensors").stat().st_mtime_ns
    second, _ = train_fold(tmp_path, utterances())
    assert first == second
    assert (unit / "best.safetensors").stat().st_mtime_ns == stamp


class Stop(Exception):
    pass


def test_a_checkpoint_of_another_fold_or_seed_is_not_resumed(tmp_path: Path) -> None:
    """Its network has seen the test speaker of this fold."""

    def stop(_: dict[str, float]) -> None:
        raise Stop

    wanted = request(tmp_path)
    manifest, unit = manifest_of(tmp_path), tmp_path / "unit"
    first, second, *_ = make_folds(manifest.utterances, "strict", wanted.config.train)
    with Corpus(choose_recipes(wanted.cache, "both"), manifest.utterances, manifest.label_set()) as corpus:
        with pytest.raises(Stop):
            fit(corpus, first, 0, wanted.config, unit, on_epoch=stop, identity="run")
        for fold, seed in ((second, 0), (first, 1)):
            with pytest.raises(MfhcaError, match=r"cannot be resumed \(it belongs to another fold or seed"):
                fit(corpus, fold, seed, wanted.config, unit, identity="run")
        assert fit(corpus, first, 0, wanted.config, unit, identity="run")["id"] == first.id


def test_stopped_between_epochs_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    rows = utterances()
    (tmp_path / "a").mkdir()
    _, whole = train_fold(tmp_path / "a", rows, train__epochs="4")

    def stop_after_two(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise Stop

    (tmp_path / "b").mkdir()
    wanted = request(tmp_path / "b", rows, {"train.epochs": "4"})
    manifest = manifest_of(tmp_path / "b")
    fold = make_folds(manifest.utterances, "strict", wanted.config.train)[0]
    with Corpus(choose_recipes(wanted.cache, "both"), manifest.utterances, manifest.label_set()) as corpus:
        with pytest.raises(Stop):
            fit(corpus, fold, 0, wanted.config, tmp_path / "b/unit", on_epoch=stop_after_two)
        assert not (tmp_path / "b/unit").exists()
        torch.manual_seed(99)  # whatever happened in between
        fit(corpus, fold, 0, wanted.config, tmp_path / "b/unit")
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in (tmp_path / "b/unit").iterdir())
    for path in whole.iterdir():
        assert path.read_bytes() == (tmp_path / "b/unit" / path.name).read_bytes(), path.name


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    rows = utterances()
    (tmp_path / "a").mkdir()
    _, whole = train_fold(tmp_path / "a", rows, train__epochs="6")
    (tmp_path / "b").mkdir()
    request(tmp_path / "b", rows)
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from unit_factory import train_fold; from corpus_factory import utterances\n"
        "print('ready', flush=True)\n"
        "train_fold(Path(sys.argv[2]), utterances(), train__epochs='6')\n"
    )
    command = [sys.executable, "-c", script, str(FACTORIES), str(tmp_path / "b")]
    rng = np.random.default_rng(0)
    unit = tmp_path / "b" / "unit"
    kills = 0
    while kills < 5 and not unit.exists():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.02, 0.5))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        kills += 1
        assert not unit.exists() or (unit / "result.json").exists()
    assert kills > 0
    train_fold(tmp_path / "b", rows, train__epochs="6")
    for path in whole.iterdir():
        assert path.read_bytes() == (unit / path.name).read_bytes(), path.name


def test_a_loss_that_is_not_finite_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        MfhcaError, match=r"fold s0, seed 0, epoch \d+: the loss is (nan|inf); lower train.lr"
    ):
        train_fold(tmp_path, utterances(), train__lr="10", train__weight_decay="1e6", train__batch_size="2")


def test_seeds_differ_by_seed_fold_and_epoch() -> None:
    seeds = {derived_seed(s, f, e) for s in range(3) for f in ("1", "11", "2") for e in range(12)}
    assert len(seeds) == 3 * 3 * 12


def test_class_weights_change_training(tmp_path: Path) -> None:
    rows = [u for u in utterances() if u.speaker == "s0" or not u.utterance.endswith("_0")]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, plain = train_fold(tmp_path / "a", rows)
    _, weighted = train_fold(tmp_path / "b", rows, train__class_weights="true")
    assert (plain / "best.safetensors").read_bytes() != (weighted / "best.safetensors").read_bytes()


def test_the_network_learns_the_made_up_classes(tmp_path: Path) -> None:
    result, unit = train_fold(tmp_path, utterances(speakers=6, each=8), train__epochs="15")
    assert result["wa"] >= 0.75
    assert load_file(unit / "best.safetensors")


def test_small_settings_are_valid() -> None:
    assert with_settings(Config(), SMALL).train.epochs == 3
