"""Training from Python: as the commands, with keyword arguments, texts or paths, and MfhcaError."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpus_factory import SMALL, request

import mfhca_train
from mfhca_cache import MfhcaError
from mfhca_cache.common.cluster import Cluster
from mfhca_train import Config, Epoch, Run, ablate, cross_validate
from mfhca_train.cli.main import main

TINY = {**SMALL, "model.inputs": "ssl", "train.epochs": 2}
del TINY["model.grf_channels"]  # belongs to the spectrogram
GRID = """
[base]
set = { "model.inputs" = "ssl" }
[[row]]
name = "mean"
reference = true
[[row]]
name = "most"
kind = "majority"
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus.csv and cache/."""
    folder = tmp_path_factory.mktemp("corpus")
    request(folder)
    return folder


@pytest.fixture(scope="module")
def trained(corpus: Path) -> tuple[Run, list[Epoch]]:
    """A run of one fold from Python, and the epochs it reported."""
    epochs: list[Epoch] = []
    run = cross_validate(
        str(corpus / "corpus.csv"),
        str(corpus / "cache"),
        str(corpus / "python"),
        settings=TINY,
        folds="s0",
        jobs=1,
        analysis=False,
        on_epoch=epochs.append,
    )
    return run, epochs


def test_a_run_has_the_results_of_the_command_to_the_byte(
    corpus: Path, trained: tuple[Run, list[Epoch]]
) -> None:
    run, _ = trained
    options = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]
    places = [str(corpus / "corpus.csv"), "--cache", str(corpus / "cache"), "--out", str(corpus / "command")]
    main(["cv", *places, *options, "--fold", "s0", "--jobs", "1", "--no-analysis"], standalone_mode=False)
    for name in (
        "results.json",
        "model/seed-0/fold-s0/predictions.csv",
        "model/seed-0/fold-s0/best.safetensors",
    ):
        assert (run.path / name).read_bytes() == (corpus / "command" / name).read_bytes()


def test_every_epoch_is_reported(trained: tuple[Run, list[Epoch]]) -> None:
    run, epochs = trained
    assert [(e.row, e.fold, e.seed, e.epoch, e.epochs) for e in epochs] == [
        ("model", "s0", 0, 1, 2),
        ("model", "s0", 0, 2, 2),
    ]
    for name in ("train_loss", "validation_loss", "validation_wa", "validation_ua"):
        assert run.history[name].tolist() == [e.scores[name] for e in epochs]


def test_a_second_call_trains_nothing(corpus: Path, trained: tuple[Run, list[Epoch]]) -> None:
    run, _ = trained
    before = (run.path / "model/seed-0/fold-s0/best.safetensors").stat().st_mtime_ns
    epochs: list[Epoch] = []
    places = (corpus / "corpus.csv", corpus / "cache", run.path)
    again = cross_validate(
        *places, settings=TINY, folds=["s0"], seeds=[0], jobs=1, analysis=False,
        on_epoch=[epochs.append],
    )  # fmt: skip
    assert again.scores == run.scores
    assert epochs == []
    assert (run.path / "model/seed-0/fold-s0/best.safetensors").stat().st_mtime_ns == before


def test_an_ablation_has_its_rows(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(GRID)
    run = ablate(
        tmp_path / "grid.toml",
        corpus / "corpus.csv",
        corpus / "cache",
        tmp_path / "run",
        settings={"model.width": 16, "train.epochs": 1},
        folds="s1",
        seeds=1,
        jobs=1,
        analysis=False,
    )
    assert list(run) == ["mean", "most"]
    assert run["most"].confusion.sum() == run["mean"].confusion.sum() == 6
    assert len(run["mean"].history["epoch"]) == 1
    assert len(run["most"].history["epoch"]) == 0
    assert run["mean"].results.comparison is None
    assert run["most"].results.comparison is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"settings": {"train.learning_rate": 1}},
            r"no setting is called 'train\.learning_rate'; did you mean train\.lr",
        ),
        ({"settings": {"train.lr": -1}}, r"train\.lr = -1 does not fit"),
        ({"settings": Config(), "preset": "small"}, "a Config has all settings"),
        ({"preset": "tiny"}, "tiny"),
        ({"protocol": "loso"}, "no protocol is called 'loso'; there are: strict"),
        ({"folds": "s9"}, "no fold is called 's9'; there are: s0, s1"),
        ({"seeds": 0}, "seeds is 0; expected a number of at least 1"),
        ({"seeds": []}, "seeds is \\[\\]; expected"),
        ({"threads": 0}, "threads is 0; expected a whole number of at least 1"),
        ({"jobs": 2, "cluster": Cluster("tcp://x:1")}, "jobs cannot be used with a cluster"),
        ({"label_set": "six"}, "no label set 'six'"),
        ({"ssl": "wavlm"}, "no ssl features with a name starting with 'wavlm'"),
        ({"device": "gpu"}, "gpu"),
    ],
)
def test_wrong_arguments_are_errors(corpus: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MfhcaError, match=message):
        cross_validate(corpus / "corpus.csv", corpus / "cache", corpus / "none", **arguments)
    assert not (corpus / "none").exists()


def test_a_run_inside_the_cache_is_refused(corpus: Path) -> None:
    cache = corpus / "cache"
    with pytest.raises(MfhcaError, match=r"is inside the cache .*; choose another --out"):
        cross_validate(corpus / "corpus.csv", cache, cache / ".." / "cache" / "run")
    assert not (cache / "run").exists()


def test_a_grid_that_does_not_exist_names_the_nearest(corpus: Path) -> None:
    with pytest.raises(MfhcaError, match="tabel2: no such grid file; did you mean table2"):
        ablate("tabel2", corpus / "corpus.csv", corpus / "cache", corpus / "none")


@pytest.mark.parametrize(("function", "name"), [(cross_validate, "cv"), (ablate, "ablate")])
def test_defaults_are_those_of_the_command(function: Callable[..., Any], name: str) -> None:
    parameters = inspect.signature(function).parameters
    options = {option.name: option for option in main.commands[name].params}
    only_commands = {"quiet", "verbose", "backend", "scheduler", "worker_timeout", "dry_run"}
    assert set(parameters) - {"cluster", "on_epoch"} == set(options) - only_commands
    for argument in set(parameters) & set(options):
        if parameters[argument].default is not inspect.Parameter.empty:
            shown = options[argument].to_info_dict().get("default", options[argument].default)
            assert (shown or None) == (parameters[argument].default or None), argument
            assert parameters[argument].kind is inspect.Parameter.KEYWORD_ONLY


def test_dir_and_help_show_what_is_public() -> None:
    assert dir(mfhca_train) == sorted(mfhca_train.__all__)
    for name in ("cross_validate", "ablate", "load_run"):
        function = getattr(mfhca_train, name)
        text = inspect.getdoc(function) or ""
        for argument in inspect.signature(function).parameters:
            assert f"{argument}:" in text or f"{argument}," in text
        assert "MfhcaError:" in text
