"""Which recipes of a cache a network reads, for its two inputs and the third of the baseline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus_factory import CLASSES, SPEC, SPEC_SHAPE, SSL, SSL_SHAPE, utterances, write_features
from layer_factory import LAYERS, write_hidden_states

from mfhca_cache.build.sources import read_sources
from mfhca_cache.build.verify import verify
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.recipe.kinds import LogMel, LogSpec, Mfcc
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes

MFCC, MFCC_SHAPE = Mfcc(frames=12, bands=6, coefficients=5, dtype="float32"), (12, 5)
MEL, MEL_SHAPE = LogMel(frames=24, bands=7, dtype="float32"), (24, 7)
LABELS = LabelSet("x", {c: c for c in CLASSES})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    kinds = ((SPEC, SPEC_SHAPE), (MEL, MEL_SHAPE), (MFCC, MFCC_SHAPE), (SSL, SSL_SHAPE))
    write_features(tmp_path / "cache", utterances(2), kinds=kinds)
    return tmp_path / "cache"


def keys(*args: object, **options: object) -> dict[str, str]:
    return {side: recipe.key for side, recipe in choose_recipes(*args, **options).items()}  # type: ignore[arg-type]


def test_logspec_is_meant_unless_logmel_is_named(cache: Path) -> None:
    assert keys(cache, "both") == {"spec": SPEC.key, "ssl": SSL.key}
    assert keys(cache, "spec", "logmel") == keys(cache, "spec", f"logmel-{MEL.key}") == {"spec": MEL.key}
    assert keys(cache, "spec", "logspec") == {"spec": SPEC.key}
    with pytest.raises(MfhcaError, match=r"--spec log is an ambiguous prefix(.|\n)*logmel-(.|\n)*logspec-"):
        choose_recipes(cache, "spec", "log")
    with pytest.raises(MfhcaError, match="no logspec features with a name starting with 'nonesuch'"):
        choose_recipes(cache, "spec", "nonesuch")


def test_a_cache_with_logmel_alone_needs_no_name(tmp_path: Path) -> None:
    write_features(tmp_path, utterances(2), kinds=((MEL, MEL_SHAPE),))
    assert keys(tmp_path, "spec") == {"spec": MEL.key}


def test_two_recipes_of_one_kind_are_still_listed(cache: Path) -> None:
    other = LogSpec(frames=24, bins=15, dtype="float32")
    write_features(cache, utterances(2), kinds=((other, (24, 15)),))
    with pytest.raises(MfhcaError, match="2 recipes of logspec features"):
        choose_recipes(cache, "spec")


def test_a_cache_that_is_a_symlink_to_nothing_is_named_with_its_target(tmp_path: Path) -> None:
    (tmp_path / "cache").symlink_to("/mnt/absent")
    told = "cache: a symlink to /mnt/absent, and there is no such folder"
    with pytest.raises(MfhcaError, match=f"{told}, so no logspec features; run"):
        choose_recipes(tmp_path / "cache", "both")
    with pytest.raises(MfhcaError, match=f"{told}; pass the cache folder"):
        verify(tmp_path / "cache")
    with pytest.raises(MfhcaError, match=f"{told}; pass the corpus folder"):
        read_sources([], tmp_path / "cache")


@pytest.mark.parametrize(
    ("kinds", "options", "message"),
    [
        ((), {"inputs": "spec"}, "no logspec features; run `mfhca-cache features .*--kind logspec`"),
        (((SPEC, SPEC_SHAPE),), {"inputs": "spec", "spec": "logmel"}, "no logmel features.*--kind logmel`"),
        (((SPEC, SPEC_SHAPE),), {"inputs": "both"}, "no ssl features.*--kind ssl --backbone ENCODER`"),
        (
            ((SPEC, SPEC_SHAPE), (SSL, SSL_SHAPE)),
            {"inputs": "both", "mfcc": True},
            "no mfcc features.*--kind mfcc`",
        ),
    ],
)
def test_a_kind_that_is_not_there_is_named_with_its_command(
    tmp_path: Path, kinds: tuple, options: dict, message: str
) -> None:
    if kinds:
        write_features(tmp_path, utterances(2), kinds=kinds)
    with pytest.raises(MfhcaError, match=message) as caught:
        choose_recipes(tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_of_several_mfccs_those_made_like_the_spectrogram_are_taken(cache: Path) -> None:
    other = Mfcc(frames=12, bands=6, coefficients=5, dtype="float32", tail="overlap")
    write_features(cache, utterances(2), kinds=((other, MFCC_SHAPE),))
    assert keys(cache, "both", mfcc=True)["mfcc"] == MFCC.key


def test_mfccs_cut_otherwise_are_refused(tmp_path: Path) -> None:
    other = Mfcc(frames=12, bands=6, coefficients=5, dtype="float32", tail="overlap")
    kinds = ((SPEC, SPEC_SHAPE), (SSL, SSL_SHAPE), (other, MFCC_SHAPE))
    write_features(tmp_path, utterances(2), kinds=kinds)
    with pytest.raises(MfhcaError, match=r"cut the audio differently \(tail: pad and overlap\)"):
        choose_recipes(tmp_path, "both", mfcc=True)


def test_batches_hold_the_third_feature_as_stored(cache: Path) -> None:
    rows = utterances(2)
    with Corpus(choose_recipes(cache, "both", mfcc=True), rows, LABELS) as corpus:
        chosen = np.arange(len(rows))
        segments = corpus.segments(chosen)
        scale = {"spec": None, "ssl": None, "mfcc": corpus.normaliser("mfcc", "none", chosen)}
        batch = next(corpus.batches(segments, np.arange(len(segments)), 100, scale))
        found = corpus.features["mfcc"].gather(*segments.rows["mfcc"].T)
        np.testing.assert_array_equal(batch.mfcc.numpy(), found)
        np.testing.assert_array_equal(batch.mfcc_valid.numpy(), segments.valid["mfcc"])
        assert batch.inputs == (
            batch.spec, batch.ssl, batch.spec_valid, batch.ssl_valid, batch.mfcc, batch.mfcc_valid
        )  # fmt: skip
        assert corpus.shape("mfcc") == MFCC_SHAPE
        with_mfcc = corpus.digest()
    with Corpus(choose_recipes(cache, "both"), rows, LABELS) as corpus:
        batch = next(corpus.batches(corpus.segments(chosen), np.arange(3), 3, {"spec": None, "ssl": None}))
        assert batch.mfcc is None
        assert corpus.digest() != with_mfcc


def test_mfccs_of_other_audio_are_refused(tmp_path: Path) -> None:
    write_features(tmp_path, utterances(2))
    write_features(tmp_path, utterances(2), version={"s1_0": 1}, kinds=((MFCC, MFCC_SHAPE),))
    with pytest.raises(MfhcaError, match=r"utterance s1_0 \(s1_0\.wav\): .* different audio"):
        Corpus(choose_recipes(tmp_path, "both", mfcc=True), utterances(2), LABELS)


def test_backbones_and_layers_in_one_cache_are_told_apart_by_name(tmp_path: Path) -> None:
    one = write_hidden_states(tmp_path, ("all", -1, 2), "hubert")
    other = write_hidden_states(tmp_path, ("all",), "wavlm", weights="7")
    with pytest.raises(MfhcaError, match="4 recipes of ssl features; choose one with --ssl NAME") as caught:
        choose_recipes(tmp_path, "ssl")
    for folder in (*one.values(), *other.values()):
        assert folder.name in str(caught.value)

    def chosen(name: str | None = None, layer: int | str = "auto") -> tuple[Path, int | None]:
        found = choose_recipes(tmp_path, "ssl", ssl=name, ssl_layer=layer)["ssl"]
        return found.path, found.layer

    assert chosen("wavlm") == chosen("w") == chosen("ssl-wavlm-all") == (other["all"], None)
    assert chosen("hubert") == (one[-1], None)  # the whole name
    assert chosen("hubert-all") == (one["all"], None)
    assert chosen("hubert-layer") == (one[2], None)
    # The setting says which, where the name does not.
    assert chosen("hubert", "weighted") == (one["all"], None)
    assert chosen("hubert", 3) == (one["all"], 3)
    assert chosen("wavlm", -1) == (other["all"], LAYERS - 1)
    assert chosen("hubert-layer2", 2) == (one[2], None)
    for layer, message in (("weighted", "needs all layers"), (3, "needs another one")):
        with pytest.raises(
            MfhcaError, match=f"holds only layer 2, but model.ssl_layer={layer} {message}; remove"
        ):
            chosen("hubert-layer2", layer)
    with pytest.raises(MfhcaError, match=rf"has no layer {LAYERS}; .* to {LAYERS - 1}, or -1"):
        chosen("wavlm", LAYERS)


def test_a_cache_of_hidden_states_alone_names_the_setting_that_reads_them(tmp_path: Path) -> None:
    cache = tmp_path / "my cache"
    write_features(cache, utterances(2), kinds=((SSL, SSL_SHAPE),))
    with pytest.raises(
        MfhcaError, match=r"no logspec features; .* `--set model\.inputs=ssl`, or run"
    ) as caught:
        choose_recipes(cache, "both")
    assert f"--cache '{cache}'" in str(caught.value)
    assert keys(cache, "ssl") == {"ssl": SSL.key}
