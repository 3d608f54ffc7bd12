"""Networks on features of another program, evaluated on another corpus, and several corpora with such features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from corpus_factory import SMALL, utterances
from external_factory import RATE, frames_of

from mfhca_cache.exchange.external import import_features
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_train.cli.main import main


def corpus(folder: Path, name: str, **options: Any) -> None:
    """NAME.csv with three speakers, and their features under the name "other" in the cache NAME."""
    rows = [
        replace(u, utterance=f"{name}-{u.utterance}", path=f"{name}-{u.path}") for u in utterances(3, each=4)
    ]
    write_manifest(folder / f"{name}.csv", rows)
    (folder / f"{name}-frames").mkdir(exist_ok=True)
    for u in rows:
        np.save(folder / f"{name}-frames/{u.utterance}.npy", frames_of(u))
    import_features(
        folder / f"{name}.csv",
        folder / name,
        folder / f"{name}-frames",
        frame_rate=RATE,
        **{"name": "other"} | options,
    )


def call(folder: Path, *arguments: str) -> Result:
    """Names of files are those in `folder`."""
    return CliRunner().invoke(
        main,
        [str(folder / part) if (folder / part.partition("/")[0]).exists() else part for part in arguments],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two corpora with features of another program, and a third corpus."""
    folder = tmp_path_factory.mktemp("external")
    for name in ("a", "b", "c"):
        corpus(folder, name)
    (folder / "runs").mkdir()
    settings = {name: value for name, value in SMALL.items() if name != "model.grf_channels"}
    settings |= {"model.inputs": "ssl", "train.epochs": "1"}
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    done = call(
        folder,
        *("cv", "a.csv", "b.csv", "--cache", "a", "--cache", "b", "--out", "runs/run", "--ssl", "other"),
        *("--protocol", "corpus", "--preset", "paper", "--jobs", "1", "--no-analysis", *options),
    )
    assert done.exit_code == 0, done.output
    assert "protocol corpus: 24 utterances" in done.output
    return folder


def test_the_card_of_a_bundle_says_that_it_cannot_predict(folder: Path) -> None:
    done = call(folder, "export", "runs/run", "--out", str(folder / "bundle"))
    assert done.exit_code == 0, done.output
    page = (folder / "bundle/README.md").read_text()
    assert "mfhca-train evaluate FOLDER MANIFEST --cache CACHE --ssl NAME\n```\n" in page
    assert "Another program made the features (other), so these networks cannot predict recordings." in page
    assert "mfhca-train predict" not in page
    assert "mfhca-train predict" not in (folder / "bundle/card.json").read_text()


def test_named_features_of_another_corpus_are_evaluated(folder: Path) -> None:
    arguments = ("evaluate", "runs/run", "c.csv", "--cache", "c")
    unnamed = call(folder, *arguments)
    assert unnamed.exit_code == 1
    assert "made in the same way, and name them with --ssl NAME" in unnamed.output
    named = call(folder, *arguments, "--ssl", "other")
    assert named.exit_code == 0, named.output
    assert "scored on c, label set all: 12 utterances" in named.output
    wrong = call(folder, *arguments, "--ssl", "othr")
    assert "0 imported features are named othr...; did you mean other?" in wrong.output
    spec = call(folder, *arguments, "--spec", "other")
    assert "--spec other: the networks read no imported features there" in spec.output


def test_features_that_were_made_otherwise_are_refused(folder: Path) -> None:
    corpus(folder, "d", dtype="float32")
    done = call(folder, "evaluate", "runs/run", "d.csv", "--cache", "d", "--ssl", "other")
    assert done.exit_code == 1
    assert (
        "not made like the training features: dtype: float32 in the cache, float16 in the run" in done.output
    )
    again = call(
        folder, "cv", "a.csv", "d.csv", "--cache", "a", "--cache", "d", "--out", "runs/x", "--ssl", "other",
        "--set", "model.inputs=ssl",
    )  # fmt: skip
    assert again.exit_code == 1
    assert "all corpora of a run need the same" in again.output
