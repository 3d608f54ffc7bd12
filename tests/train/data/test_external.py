"""Features of another program as inputs of a network: chosen by name, trained like ours, nothing of a test speaker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus_factory import request, utterances, write_features
from external_factory import RATE, frames_of

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.exchange.export import export_features
from mfhca_cache.exchange.external import import_features
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.store.reader import list_recipes
from mfhca_cache.store.shard import read_shard
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.runs.crossval import cross_validate


def rows() -> list[Utterance]:
    """The small corpus with lengths that give the one or two segments of its made-up features."""
    return [replace(u, samples=32000 if int(u.utterance[-1]) % 2 == 0 else 72000) for u in utterances()]


@pytest.fixture(scope="module")
def trip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with both kinds of features, and both once more: exported as segments, and imported."""
    folder = tmp_path_factory.mktemp("trip")
    write_manifest(folder / "corpus.csv", rows())
    write_features(folder / "cache", rows())
    for kind in ("logspec", "ssl"):
        out = folder / f"exported-{kind}"
        export_features(folder / "corpus.csv", folder / "cache", out, "npz", recipe=kind, content="segments")
        source = out / "features"
        import_features(folder / "corpus.csv", folder / "cache", source, f"again-{kind}", dtype="float32")
    return folder


def weights(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("best.safetensors"))}


def test_features_through_export_and_import_train_to_the_same_weights(trip: Path) -> None:
    asked = request(trip, settings={"train.epochs": "1"}, folds=("s0",))
    first = cross_validate(replace(asked, out=trip / "ours"))
    names = {"spec": "external-again-logspec", "ssl": "again-ssl"}
    second = cross_validate(replace(asked, out=trip / "theirs", **names))
    ours, theirs = weights(trip / "ours"), weights(trip / "theirs")
    assert len(ours) == 1
    assert ours == theirs
    assert first["ua"] == second["ua"]
    assert first["confusion"] == second["confusion"]


def test_shards_through_export_and_import_have_the_same_rows_moments_and_audio(trip: Path) -> None:
    for kind in ("logspec", "ssl"):
        folders = {r.name: r.path for r in list_recipes(trip / "cache")}
        ours = read_shard(folders[kind] / "s1.h5")
        theirs = read_shard(folders[f"external-again-{kind}"] / "s1.h5")
        assert ours.audio_sha256 == theirs.audio_sha256
        assert (ours.shape, ours.valid_frames.tolist()) == (theirs.shape, theirs.valid_frames.tolist())
        for name in ("sum", "sum_squares", "minimum", "maximum"):
            np.testing.assert_array_equal(ours.moments(name), theirs.moments(name))
        data = [
            shard.path.read_bytes()[shard.offset :][: shard.shape[0] * shard.row_bytes]
            for shard in (ours, theirs)
        ]
        assert data[0] == data[1]


def test_imported_features_are_read_only_if_they_are_named(trip: Path) -> None:
    cache = trip / "cache"

    def kinds(**names: str) -> dict[str, str]:
        return {side: recipe.name for side, recipe in choose_recipes(cache, "both", **names).items()}

    assert kinds() == {"spec": "logspec", "ssl": "ssl"}
    assert kinds(ssl="again-ssl") == {"spec": "logspec", "ssl": "external-again-ssl"}
    assert kinds(spec="external-again-l") == {"spec": "external-again-logspec", "ssl": "ssl"}
    with pytest.raises(
        MfhcaError, match=r"2 recipes of external features with a name starting with 'again'; choose"
    ):
        kinds(ssl="again")
    with pytest.raises(
        MfhcaError, match=r"no external features with a name starting with 'external-x'(.|\n)*import"
    ):
        kinds(ssl="external-x")
    with pytest.raises(
        MfhcaError, match=r"external-again-ssl-[0-9a-f]+: has no layers; remove model.ssl_layer=3"
    ):
        choose_recipes(cache, "ssl", ssl="again-ssl", ssl_layer=3)


def test_a_cache_with_imported_features_alone_names_them(tmp_path: Path) -> None:
    imported_corpus(tmp_path)
    with pytest.raises(MfhcaError, match="no ssl features; choose imported ones with --ssl external-other-"):
        choose_recipes(tmp_path / "cache", "ssl")


def imported_corpus(folder: Path, noise_for: str | None = None) -> None:
    """corpus.csv and a cache with imported frames; of one speaker they may be noise."""
    folder.mkdir(exist_ok=True)
    write_manifest(folder / "corpus.csv", rows())
    (folder / "external").mkdir()
    for u in rows():
        values = frames_of(u, (u.samples or 0) / 16000)
        if u.speaker == noise_for:
            values = np.random.default_rng(list(u.utterance.encode())).normal(5, 3, values.shape)
        np.save(folder / f"external/{u.utterance}.npy", values)
    source = folder / "external"
    import_features(
        folder / "corpus.csv", folder / "cache", source, "other", frame_rate=RATE, dtype="float32"
    )


def test_nothing_of_the_test_speaker_reaches_a_fold_of_imported_features(tmp_path: Path) -> None:
    """Its labels permuted and its features noise: the same weights. Of a training speaker: others."""
    turned = [replace(u, emotion={"anger": "joy", "joy": "anger"}.get(u.emotion, u.emotion)) for u in rows()]
    results = {}
    for name, noise_for in (("plain", None), ("test", "s0"), ("training", "s3")):
        folder = tmp_path / name
        imported_corpus(folder, noise_for)
        changed = [v if v.speaker == noise_for == "s0" else u for u, v in zip(rows(), turned, strict=True)]
        write_manifest(folder / "corpus.csv", changed)
        config = with_settings(Config(), {"model.inputs": "ssl", "train.epochs": "1", "train.lr": "3e-3"})
        asked = request(folder, folds=("s0",), ssl="external-other", config=config)
        cross_validate(asked)
        results[name] = weights(folder / "run")
    assert len(results["plain"]) == 1
    assert results["plain"] == results["test"]
    assert results["plain"] != results["training"]


def test_a_remedy_for_imported_features_is_to_import_them(tmp_path: Path) -> None:
    imported_corpus(tmp_path)
    config = with_settings(Config(), {"model.inputs": "ssl"})
    asked = request(tmp_path, ssl="other", config=config)
    (folder,) = (tmp_path / "cache").iterdir()
    for changed, message in (
        (
            [*rows(), replace(rows()[0], utterance="new")],
            "no features of 1 of 25 utterances; run `mfhca-cache import MANIFEST ",
        ),
        (
            [replace(rows()[0], path="x.wav"), *rows()[1:]],
            "1 of 24 utterances were computed from other files.*import MANIFEST ",
        ),
        (
            [*rows(), replace(rows()[0], utterance="new", path="s9.wav", speaker="s9")],
            "no features of speaker s9; run `mfhca-cache import",
        ),
    ):
        write_manifest(tmp_path / "corpus.csv", changed)
        with pytest.raises(MfhcaError, match=message):
            cross_validate(asked)
    write_manifest(tmp_path / "corpus.csv", rows())
    (folder / "s0.h5").write_bytes(b"")
    with pytest.raises(
        MfhcaError, match=r"s0.h5: not a feature shard; delete it and run `mfhca-cache import` again"
    ):
        cross_validate(asked)


def test_spectrograms_and_imported_frames_train_together(tmp_path: Path) -> None:
    write_features(tmp_path / "cache", rows())
    imported_corpus(tmp_path)
    results = cross_validate(request(tmp_path, settings={"train.epochs": "1"}, folds=("s0",), ssl="other"))
    assert results["n_segments"] == 9
