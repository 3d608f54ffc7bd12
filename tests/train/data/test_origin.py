"""A run never reads the features of another recording than the manifest names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from corpus_factory import request, utterances

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.manifest import read_manifest, write_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes


def opened(folder: Path, rows: list[Utterance]) -> None:
    """Opens the features of a small corpus for a manifest with these rows."""
    made = request(folder)
    write_manifest(made.manifest, rows)
    manifest = read_manifest(made.manifest)
    Corpus(choose_recipes(made.cache, "both", None, None), manifest.select(), manifest.label_set()).close()


def test_the_manifest_of_the_features_is_accepted(tmp_path: Path) -> None:
    opened(tmp_path, utterances())


def test_swapped_paths_are_refused_and_named(tmp_path: Path) -> None:
    first, second, *rest = utterances()
    swapped = [replace(first, path=second.path), replace(second, path=first.path), *rest]
    with pytest.raises(
        MfhcaError,
        match=rf"the features of 2 of {len(swapped)} utterances were computed from other files(.|\n)*"
        rf"{first.utterance}: {second.path} in the manifest, {first.path} in the cache",
    ):
        opened(tmp_path, swapped)


@pytest.mark.parametrize("span", [{"start_s": 0.5}, {"end_s": 1.5}, {"start_s": 0.0}])
def test_another_part_of_the_file_is_refused(tmp_path: Path, span: dict[str, float]) -> None:
    first, *rest = utterances()
    with pytest.raises(MfhcaError, match=rf"{first.utterance}: {first.path} \(.* s to .*\) in the manifest"):
        opened(tmp_path, [replace(first, **span), *rest])  # type: ignore[arg-type]
