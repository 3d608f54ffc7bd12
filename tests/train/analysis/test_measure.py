"""The stored measures and arrays are those of the networks, recomputed segment by segment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from analysis_factory import ROWS, analysed_request

from mfhca_train.analysis.stored import FILE, Analysis, read
from mfhca_train.config.settings import ModelConfig
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.model.saved import load_network
from mfhca_train.results.schema import unit_folder
from mfhca_train.runs.plan import read_labels


def analysis(finished: Path, row: str) -> Analysis:
    return read(finished / "run" / row / FILE)


@pytest.mark.parametrize("row", ["hca", "masked", "coattention", "ssl", "spec"])
def test_stored_features_are_those_of_the_network_segment_by_segment(finished: Path, row: str) -> None:
    summary, arrays = analysis(finished, row).summary, analysis(finished, row).arrays
    settings = summary["config"]["model"]
    config = ModelConfig(**settings | {"grf_channels": tuple(settings["grf_channels"])})
    model, inputs = load_network(unit_folder(finished / "run", row, 0, summary["fold"]), config, 4)
    ground = read_labels(analysed_request(finished))
    recipes = choose_recipes(finished / "cache", config.inputs)
    with Corpus(recipes, ground.utterances, ground.label_set) as corpus:
        names = [u.utterance for u in corpus.utterances]
        for k in (0, 3, len(summary["points"]["utterances"]) - 1):
            index = names.index(summary["points"]["utterances"][k])
            segments = corpus.segments(np.array([index]))
            parts = []
            for s in range(len(segments)):
                given: dict[str, torch.Tensor] = {}
                for side, features in corpus.features.items():
                    shard, position = segments.rows[side][s]
                    x = torch.from_numpy(features.gather(np.array([shard]), np.array([position]))).float()
                    n = inputs.normalisers[side]
                    given[side] = (
                        x if n is None else x * torch.from_numpy(n.scale) + torch.from_numpy(n.shift)
                    )
                    given[f"{side}_valid"] = torch.tensor([int(segments.valid[side][s])])
                if "spec" in given:
                    given["spec"] = given["spec"][:, None]
                with torch.no_grad():
                    parts.append(model(**given).features[0].numpy())
            np.testing.assert_allclose(arrays["points.features"][k], np.mean(parts, axis=0), atol=1e-5)
            assert arrays["points.label"][k] == corpus.labels[index]


def test_roles_are_those_of_the_fold(finished: Path) -> None:
    summary, arrays = analysis(finished, "hca").summary, analysis(finished, "hca").arrays
    speakers = summary["points"]["speakers"]
    assert speakers["test"] == [summary["fold"]]
    roles = ("test", "validation", "training")
    for name, role in zip(summary["points"]["utterances"], arrays["points.role"], strict=True):
        assert name.split("_")[0] in speakers[roles[role]]
    assert sum(map(len, speakers.values())) == 5
    assert len(summary["points"]["utterances"]) == 5 * 8


@pytest.mark.parametrize("row", ["hca", "masked", "frames"])
def test_softmax_attention_sums_to_one(finished: Path, row: str) -> None:
    arrays = analysis(finished, row).arrays
    weights = np.concatenate([array for name, array in arrays.items() if name.endswith(".weights")])
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)


def test_masked_padding_gets_no_attention_and_unmasked_padding_some(finished: Path) -> None:
    for row in ROWS:
        for fold in analysis(finished, row).summary["folds"]:
            mass, share = fold["attention"]["mass"], fold["attention"]["share"]
            if row in ("masked", "frames"):
                assert mass["mean"] == 0.0
            if row in ("hca", "masked", "frames", "released", "coattention"):
                # Every utterance ends with a segment half of which is padding.
                assert mass["n"] == share["n"] == 8
                np.testing.assert_allclose(share["mean"], 0.5)
            else:
                assert mass == {"n": 0, "mean": None}
    hca = analysis(finished, "hca").summary["folds"][0]["attention"]["mass"]["mean"]
    assert hca is not None
    assert 0.1 < hca < 0.9


def test_the_attention_is_described_as_the_fusion_registers_it(finished: Path) -> None:
    weights = {row: analysis(finished, row).summary["weights"] for row in ROWS}
    assert {row for row, text in weights.items() if text is None} == {"concat", "spec", "ssl"}
    assert weights["hca"] == "a softmax over the encoder's frames (eq. 9)"
    assert analysis(finished, "channel").summary["attended"] == "channels"
