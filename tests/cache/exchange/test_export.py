"""Exported features, read back by the libraries they are for, are those of the shards."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_factory import call, done
from corpus_factory import KINDS, SPEC, SSL, SSL_SHAPE, utterances, write_features
from layer_factory import LAYERS, write_corpus, write_hidden_states

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.exchange.export import export_features
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.store.reader import Features, find_recipe

Arrays = dict[str, np.ndarray]
# Not float32, so that each value is exact in both types.
HALF = replace(SSL, dtype="float16")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus.csv, cache/ and its spectrograms and hidden states; one name has a blank and a slash."""
    folder = tmp_path_factory.mktemp("export")
    rows = utterances()
    write_manifest(folder / "corpus.csv", [replace(u, fold=f"f{u.speaker[1]}") for u in rows])
    write_features(folder / "cache", rows, kinds=((SPEC, KINDS[0][1]), (HALF, SSL_SHAPE)))
    return folder


def exported(small: Path, out: Path, form: str, **options: Any) -> Path:
    export_features(small / "corpus.csv", small / "cache", out, form, **{"recipe": "ssl", **options})
    return out


def expected(small: Path, content: str, dtype: str) -> Arrays:
    """From the shards, by loops over segments."""
    recipe = find_recipe(small / "cache", "ssl")
    found = {}
    with Features.open(recipe, sorted({u.speaker for u in utterances()})) as features:
        for u in utterances():
            values, valid = features.utterance(u.utterance)
            frames = np.concatenate([row[:count] for row, count in zip(values, valid, strict=True)])
            exact = frames.astype(np.float64)
            statistics = np.concatenate([exact.mean(axis=0), exact.std(axis=0)])
            found[u.utterance] = {"frames": frames, "segments": values, "statistics": statistics}[
                content
            ].astype(dtype)
    return found


def labels(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "labels.csv", newline="", encoding="utf-8") as file:
        return {row["utterance"]: row for row in csv.DictReader(file)}


def same(found: Arrays, wanted: Arrays) -> None:
    assert sorted(found) == sorted(wanted)
    for name, values in wanted.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def numpy_arrays(out: Path) -> Arrays:
    return {path.stem: np.load(path)["features"] for path in (out / "features").iterdir()}


def kaldi_arrays(out: Path) -> Arrays:
    kaldiio = pytest.importorskip("kaldiio")
    return {name: np.array(values) for name, values in kaldiio.load_scp(str(out / "feats.scp")).items()}


def parquet_arrays(out: Path) -> Arrays:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(out / "features.parquet")
    dtype = np.float16 if "halffloat" in str(table.schema.field("features").type) else np.float32
    return {row["utterance"]: np.array(row["features"], dtype) for row in table.to_pylist()}


def hf_arrays(out: Path) -> Arrays:
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_from_disk(str(out)).with_format("numpy")  # which makes float32 of float16
    kind = loaded.features["features"]
    dtype = np.dtype(kind.feature.dtype if isinstance(kind, datasets.List) else kind.dtype)
    return {str(row["utterance"]): np.asarray(row["features"]).astype(dtype) for row in loaded}


READERS = {"npz": numpy_arrays, "kaldi": kaldi_arrays, "parquet": parquet_arrays, "hf": hf_arrays}


@pytest.mark.parametrize("content", ["frames", "segments", "statistics"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("form", READERS)
def test_what_a_library_reads_is_what_the_shard_has(
    small: Path, tmp_path: Path, form: str, dtype: str, content: str
) -> None:
    if form == "kaldi" and (dtype == "float16" or content == "segments"):
        with pytest.raises(MfhcaError, match="Kaldi has matrices of float32; choose --dtype float32"):
            exported(small, tmp_path / "out", form, dtype=dtype, content=content)
        return
    out = exported(small, tmp_path / "out", form, dtype=dtype, content=content)
    same(READERS[form](out), expected(small, content, dtype))
    table, frames = labels(out), expected(small, "frames", dtype)
    for u in utterances():
        row = table[u.utterance]
        assert (row["speaker"], row["label"], row["fold"]) == (u.speaker, u.emotion, f"f{u.speaker[1]}")
        assert int(row["frames"]) == len(frames[u.utterance])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_says_what_it_holds(small: Path, tmp_path: Path) -> None:
    """The files of another encoder, or of the audio of another take, have the same names and shapes."""
    recipe = find_recipe(small / "cache", "ssl")
    first = json.loads((exported(small, tmp_path / "a", "npz") / "source.json").read_text())
    assert (first["key"], first["recipe"], first["content"]) == (recipe.key, recipe.recipe, "frames")
    write_features(tmp_path / "b/cache", utterances(), version={"s1_1": 1}, kinds=((HALF, SSL_SHAPE),))
    shutil.copy(small / "corpus.csv", tmp_path / "b/corpus.csv")
    other = json.loads((exported(tmp_path / "b", tmp_path / "c", "npz") / "source.json").read_text())
    assert [field for field in first if first[field] != other[field]] == ["sha256"]


def test_kaldi_s_tables_are_sorted_and_complete(small: Path, tmp_path: Path) -> None:
    pytest.importorskip("kaldiio")
    out = exported(small, tmp_path / "out", "kaldi")
    names = sorted(u.utterance for u in utterances())
    for file in ("feats.scp", "utt2spk", "utt2label", "utt2fold"):
        lines = (out / file).read_text().splitlines()
        assert [line.split()[0] for line in lines] == names
    assert (out / "utt2spk").read_text().splitlines()[0] == "s0_0 s0"
    assert (out / "spk2utt").read_text().splitlines()[3] == "s3 s3_0 s3_1 s3_2 s3_3 s3_4 s3_5"


def test_parquet_and_datasets_have_the_labels_as_columns(small: Path, tmp_path: Path) -> None:
    parquet, datasets = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("datasets")
    out = exported(small, tmp_path / "p", "parquet", content="segments")
    row = parquet.read_table(out / "features.parquet").to_pylist()[1]
    assert (row["utterance"], row["speaker"], row["label"], row["valid_frames"]) == (
        "s0_1",
        "s0",
        "joy",
        [12, 6],
    )
    loaded = datasets.load_from_disk(str(exported(small, tmp_path / "h", "hf", content="segments")))
    assert loaded.features["label"].names == ["anger", "joy", "neutral", "sorrow"]
    assert (loaded[1]["label"], loaded[1]["valid_frames"], loaded[1]["fold"]) == (1, [12, 6], "f0")


def test_names_with_blanks_and_slashes_survive(tmp_path: Path) -> None:
    kaldiio = pytest.importorskip("kaldiio")
    rows = [Utterance("a b/../ü.1", "x.wav", "s0", "joy")]
    write_manifest(tmp_path / "corpus.csv", rows)
    write_features(tmp_path / "cache", rows)
    for form in ("npz", "kaldi"):
        exported(tmp_path, tmp_path / form, form)
    assert [path.name for path in (tmp_path / "npz/features").iterdir()] == ["a%20b%2F..%2F%C3%BC.1.npz"]
    assert list(kaldiio.load_scp(str(tmp_path / "kaldi/feats.scp"))) == ["a%20b%2F..%2F%C3%BC.1"]
    assert list(labels(tmp_path / "npz")) == [rows[0].utterance]


def test_one_layer_of_all_is_exported(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    write_hidden_states(tmp_path / "cache")
    with pytest.raises(
        MfhcaError, match=f"holds all layers; choose one with --layer, 0 to {LAYERS - 1} or -1"
    ):
        exported(tmp_path, tmp_path / "out", "npz")
    recipe = find_recipe(tmp_path / "cache", "ssl")
    every = Features.open(recipe, ["s0"]).utterance("s0_0")[0]
    found = numpy_arrays(exported(tmp_path, tmp_path / "out", "npz", layer=-1, content="segments"))
    np.testing.assert_array_equal(found["s0_0"], every[:, -1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": None}, r"2 recipes; choose one with --recipe NAME(.|\n)*logspec-(.|\n)*ssl-"),
        (
            {"recipe": "emotion2vec"},
            "no features of a recipe beginning with 'emotion2vec'; there are logspec-",
        ),
        ({"layer": 3}, "does not hold all layers; leave --layer out"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    small: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(MfhcaError, match=message):
        exported(small, tmp_path / "out", "npz", **options)
    assert not list(tmp_path.iterdir())


def test_features_of_other_audio_are_not_exported(small: Path, tmp_path: Path) -> None:
    rows = utterances()
    for changed, message in (
        (
            [replace(rows[0], path="other.wav"), *rows[1:]],
            r"s0_0: other.wav in the manifest, s0_0.wav in the cache",
        ),
        ([*rows, replace(rows[0], utterance="new")], r"no features of 1 utterance(.|\n)*new"),
    ):
        write_manifest(tmp_path / "corpus.csv", changed)
        with pytest.raises(MfhcaError, match=message):
            export_features(tmp_path / "corpus.csv", small / "cache", tmp_path / "out", "npz", recipe="ssl")
        assert not (tmp_path / "out").exists()


def test_the_command_replaces_nothing(small: Path, tmp_path: Path) -> None:
    places = [str(small / "corpus.csv"), "--cache", str(small / "cache"), "--out", str(tmp_path / "out")]
    said = done("export", *places, "--format", "npz", "--recipe", "logspec")
    assert "frames of logspec-" in said
    assert "24 utterances, (..., 16) float32" in said
    again = call("export", *places, "--format", "npz", "--recipe", "logspec")
    assert (again.exit_code, "exists; choose another --out, or delete it" in again.stderr) == (1, True)
    assert call("export", *places, "--format", "mat").exit_code == 2


def test_labels_that_a_spreadsheet_would_run_are_quoted_as_in_every_table(tmp_path: Path) -> None:
    rows = [replace(u, utterance=f"=1+{k}") for k, u in enumerate(utterances(speakers=1))]
    write_manifest(tmp_path / "corpus.csv", rows)
    write_features(tmp_path / "cache", rows, kinds=((SPEC, KINDS[0][1]),))
    export_features(tmp_path / "corpus.csv", tmp_path / "cache", tmp_path / "out", "npz", recipe="logspec")
    assert sorted(labels(tmp_path / "out")) == sorted(f"'{u.utterance}" for u in rows)
