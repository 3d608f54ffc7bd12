"""One vector per utterance, compared with the frames themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import layer_factory
import numpy as np
import pytest
from corpus_factory import request, utterances
from sklearn.model_selection import LeaveOneGroupOut

from mfhca_cache import MfhcaError
from mfhca_train import FeatureDataset, utterance_features


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("corpus")
    request(made)
    return made


def frames_of(dataset: FeatureDataset, side: str) -> dict[str, np.ndarray]:
    """The valid frames of each utterance, all segments together."""
    found: dict[str, list[np.ndarray]] = {}
    for index in range(len(dataset)):
        item = dataset[index]
        found.setdefault(item.utterance, []).append(item.features[side][: item.valid[side]].double().numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


@pytest.mark.parametrize("pooling", ["mean", "statistics"])
@pytest.mark.parametrize("inputs", ["spec", "ssl", "both"])
def test_vectors_are_statistics_of_the_valid_frames(folder: Path, inputs: str, pooling: str) -> None:
    places = (folder / "corpus.csv", folder / "cache")
    X, y, groups = utterance_features(*places, inputs=inputs, pooling=pooling)
    dataset = FeatureDataset(*places)
    sides = [frames_of(dataset, side) for side in (("spec", "ssl") if inputs == "both" else (inputs,))]
    for row, u in zip(X, utterances(), strict=True):
        parts = []
        for frames in (side[u.utterance] for side in sides):
            parts += [frames.mean(axis=0), *([frames.std(axis=0)] if pooling == "statistics" else [])]
        np.testing.assert_allclose(row, np.concatenate(parts), rtol=1e-5, atol=1e-6)
    assert y.tolist() == [u.emotion for u in utterances()]
    assert groups.tolist() == [u.speaker for u in utterances()]
    for train, test in LeaveOneGroupOut().split(X, y, groups):
        assert not {*groups[train]} & {*groups[test]}


def test_one_of_several_layers_is_chosen(tmp_path: Path) -> None:
    manifest = layer_factory.write_corpus(tmp_path)
    layer_factory.write_hidden_states(tmp_path / "cache")
    with pytest.raises(MfhcaError, match="has all layers; choose one of 4 with ssl_layer"):
        utterance_features(manifest, tmp_path / "cache")
    X = utterance_features(manifest, tmp_path / "cache", ssl_layer=2).X
    dataset = FeatureDataset(manifest, tmp_path / "cache", inputs="ssl", ssl_layer=2)
    expected = [frames.mean(axis=0) for frames in frames_of(dataset, "ssl").values()]
    np.testing.assert_allclose(X, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "max"}, "pooling: 'max' does not exist; there are: mean, statistics"),
        ({"inputs": "mfcc"}, r"model\.inputs = 'mfcc' does not fit"),
        ({"ssl": "wavlm"}, "no ssl features with a name starting with 'wavlm'"),
    ],
)
def test_wrong_arguments_are_errors(folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MfhcaError, match=message):
        utterance_features(folder / "corpus.csv", folder / "cache", **arguments)
