"""Three small corpora with equal names of speakers, one of which calls its classes otherwise."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from corpus_factory import KINDS, SMALL, utterances, write_features
from run_factory import leave_out_pictures

from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.data.labelled import Source
from mfhca_train.runs.crossval import Request, cross_validate

NAMES = ("alpha", "beta", "gamma")
GAMMA = {"joy": "happy", "sorrow": "sad"}  # its words for two classes
MAP = {"gamma": {theirs: ours for ours, theirs in GAMMA.items()}}
FAST = {"model.inputs": "ssl", "train.epochs": "2"}


def corpus_rows(name: str, speakers: int = 3) -> list[Utterance]:
    """Utterances with ids of their own under speakers s0, s1, ... of each corpus."""
    rows = [
        replace(u, utterance=f"{name}-{u.utterance}", path=f"{name}-{u.path}")
        for u in utterances(speakers, each=4)
    ]
    return [replace(u, emotion=GAMMA.get(u.emotion, u.emotion)) for u in rows] if name == "gamma" else rows


def write_corpora(folder: Path, noise: Mapping[str, str] | None = None) -> None:
    """Each corpus with a manifest NAME.csv and a cache NAME; `noise` names a speaker of a corpus without patterns."""
    for name in NAMES:
        rows = corpus_rows(name)
        write_manifest(folder / f"{name}.csv", rows)
        # The features follow the class, whatever it is called.
        ours = [replace(u, emotion=MAP.get(name, {}).get(u.emotion, u.emotion)) for u in rows]
        write_features(folder / name, ours, (noise or {}).get(name), kinds=KINDS[1:])


def several_request(
    folder: Path, settings: Mapping[str, str] | None = None, names: tuple[str, ...] = NAMES, **changes: object
) -> Request:
    """What `cv` is asked of the corpora that `write_corpora` wrote."""
    first, *others = (Source(folder / f"{name}.csv", folder / name) for name in names)
    own = {name: value for name, value in SMALL.items() if name != "model.grf_channels"}
    base = Request(
        first.manifest,
        first.cache,
        folder / "run",
        with_settings(Config(), {**own, **FAST, **(settings or {})}),
        protocol="corpus",
        jobs=1,
        device="cpu",
        analysis=False,
        others=tuple(others),
        class_map=MAP,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@functools.cache
def _corpora() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="mfhca-test-")
    write_corpora(Path(folder.name))
    with pytest.MonkeyPatch.context() as patch:
        leave_out_pictures(patch)
        cross_validate(several_request(Path(folder.name), {"train.ssl_norm": "corpus"}))
    return folder


def trained_on_several() -> Path:
    """A folder with the corpora, and in `run` one of the protocol corpus, normalised per corpus; do not change it."""
    return Path(_corpora().name)
