from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from corpus_factory import KINDS, utterances, write_features
from several_factory import NAMES, trained_on_several

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.manifest import read_manifest, write_manifest
from mfhca_cache.store.reader import list_recipes
from mfhca_train.cli.main import main
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.normalise import estimate
from mfhca_train.inference.bundle import read_bundle
from mfhca_train.inference.ensemble import read_run
from mfhca_train.inference.onnx_heads import write_onnx
from mfhca_train.inference.predictor import Predictor


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    """A fourth corpus."""
    rows = [replace(u, utterance=f"d-{u.utterance}", path=f"d-{u.path}") for u in utterances(2, each=4)]
    write_manifest(tmp_path / "delta.csv", rows)
    write_features(tmp_path / "delta", rows, kinds=KINDS[1:])
    return tmp_path


def test_a_further_corpus_is_scaled_by_its_own_statistics(delta: Path) -> None:
    run = trained_on_several() / "run"
    done = call("evaluate", run, delta / "delta.csv", "--cache", delta / "delta", "--out", delta / "e.json")
    assert done.exit_code == 0, done.output
    assert "transductive: unlabelled utterances of this corpus" in done.output
    assert json.loads((delta / "e.json").read_text())["transductive"]
    manifest = read_manifest(delta / "delta.csv")
    (recipe,) = list_recipes(delta / "delta")
    with Corpus({"ssl": recipe}, manifest.select(), manifest.label_set()) as corpus:
        normaliser = read_run(run).members[0].inputs.normalisers["ssl"]
        assert normaliser is not None
        scale, shift = corpus.scaling_of_shards("ssl", normaliser)
        expected = estimate(corpus.features["ssl"], corpus._spans["ssl"], "standard")
        assert np.array_equal(scale, np.stack([expected.scale] * 2))
        assert np.array_equal(shift, np.stack([expected.shift] * 2))


def test_a_corpus_of_the_run_is_refused_for_evaluation() -> None:
    folder = trained_on_several()
    done = call("evaluate", folder / "run", folder / "alpha.csv", "--cache", folder / "alpha")
    assert done.exit_code == 1
    assert "trained or selected on 12 of 12 utterances" in done.output


def test_what_needs_other_statistics_is_refused_in_one_sentence(tmp_path: Path) -> None:
    run = trained_on_several() / "run"
    with pytest.raises(MfhcaError, match=r"scale each corpus by its own statistics.*`mfhca-train evaluate`"):
        Predictor.open(run)
    with pytest.raises(MfhcaError, match="which an ONNX file does not have; export without --onnx"):
        write_onnx(read_run(run), tmp_path / "onnx")


def test_a_bundle_has_the_licence_of_every_corpus_and_the_same_scaling(tmp_path: Path) -> None:
    run = trained_on_several() / "run"
    for name in NAMES[:2]:
        (tmp_path / f"{name}.toml").write_text(
            f'name = "{name}"\ntitle = "T"\ncitation = "C"\nlicence = "of {name}"\nsource = "S"\nlayout = "L"\n'
            'labels = ["anger"]\ndefault_set = "one"\n[classes.one]\nanger = "anger"\n'
        )
    cards = [part for name in NAMES[:2] for part in ("--card", tmp_path / f"{name}.toml")]
    done = call("export", run, "--out", tmp_path / "bundle", *cards)
    assert done.exit_code == 0, done.output
    assert "no card of corpus gamma: the licence is unknown" in done.output
    text = (tmp_path / "bundle/README.md").read_text()
    assert "Licence: alpha: of alpha; beta: of beta; gamma: unknown, it has no card" in text
    assert "mfhca-train evaluate FOLDER MANIFEST" in text
    for before, after in zip(read_run(run).members, read_bundle(tmp_path / "bundle").members, strict=True):
        old, new = (member.inputs.normalisers["ssl"] for member in (before, after))
        assert old is not None
        assert new is not None
        assert (old.corpora, new.corpora) == (NAMES, NAMES)
        assert np.array_equal(old.scale, new.scale)
