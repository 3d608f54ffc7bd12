"""Predictions as people and programs read them."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from mfhca_train.config.settings import Config
from mfhca_train.inference.cards import EnsembleCard, NetworkCard, RowScores
from mfhca_train.inference.ensemble import Ensemble, Member
from mfhca_train.inference.output import as_csv, as_json, as_table, attention_csv, shown
from mfhca_train.inference.prediction import Attention, Failure, Prediction
from mfhca_train.model.saved import Inputs
from mfhca_train.results.probabilities import normalised
from mfhca_train.results.schema import Score

CLASSES = ("anger", "joy")
SCORE = Score(mean=0.5, std=None, seed_std=None, ci95=None, pooled=0.5, pooled_ci95=None)


def ensemble(networks: int) -> Ensemble:
    scores = RowScores(
        wa=SCORE, ua=SCORE, f1=SCORE, headline="mean", complete=True,
        n_folds=networks, n_utterances=4, n_segments=4, recalls={},
    )  # fmt: skip
    card = EnsembleCard(
        corpus="x", label_set="all", classes=CLASSES, protocol="strict", config={}, data_digest="0", label_digest="1",
        threads=1, row="model", oracle=False, scores=scores, identity="2", versions={}, cpu="", device="cpu",
    )  # fmt: skip
    members = tuple(
        Member(
            NetworkCard(
                fold=f"s{k}",
                seed=0,
                test_speakers=(f"s{k}",),
                validation_speakers=(),
                train_speakers=(),
                selected_on="validation",
                best_epoch=1,
                wa=0.5,
                ua=0.5,
                f1=0.5,
            ),
            Inputs({}, {}, {}),
            {},
        )
        for k in range(networks)
    )
    return Ensemble(Path("run"), card, Config(), members)


def prediction(*rows: tuple[float, float], name: str = "a.wav") -> Prediction:
    attention = Attention(
        np.array([0, 0]),
        np.array([0.0, 0.02]),
        np.array([0.025, 0.045]),
        np.array([0.5, 0.25]),
        np.array([0.25]),
    )
    return Prediction(name, 1.25, 1, CLASSES, np.log(np.array(rows)), 1, attention)


def test_the_table_shows_spread_and_agreement_of_several_networks() -> None:
    found = prediction((0.9, 0.1), (0.7, 0.3), (0.2, 0.8))
    head, line, foot = as_table([found], ensemble(3)).splitlines()
    assert head.split() == ["file", "seconds", "emotion", "%", "±", "sd", "agree", "anger", "joy"]
    deviation = 100 * np.std([0.9, 0.7, 0.2], ddof=1)
    assert line.split() == ["a.wav", "1.25", "anger", "60.0", f"{deviation:.1f}", "2/3", "60.0", "40.0"]
    assert foot.startswith("probabilities in %; 3 networks of 3 folds")
    alone = as_table([prediction((0.9, 0.1))], ensemble(1))
    assert "sd" not in alone.splitlines()[0]
    assert as_table([], ensemble(1)) == ensemble(1).title
    narrow = as_table([found], ensemble(3), 40).splitlines()
    assert narrow[0].split() == ["file", "emotion", "%", "±", "sd", "agree"]
    assert "left out at this width: seconds, anger, joy; --format csv or json has them" in " ".join(
        narrow[2:]
    )
    assert all(len(line) <= 40 for line in narrow)
    long = as_table([prediction((0.9, 0.1), name="x" * 100 + ".wav")], ensemble(1))
    assert "…" in long
    assert "xxx.wav" in long


def test_csv_has_a_row_a_file_and_with_attention_a_row_a_frame() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv([prediction((0.9, 0.1), (0.7, 0.3))], CLASSES))))
    assert [row["emotion"] for row in rows] == ["anger"]
    assert float(rows[0]["p_anger"]) == pytest.approx(0.8)
    assert float(rows[0]["sd_joy"]) == pytest.approx(np.std([0.1, 0.3], ddof=1), abs=1e-6)
    assert (rows[0]["votes_anger"], rows[0]["votes_joy"], rows[0]["seen_by"]) == ("2", "0", "1")
    alone = next(csv.DictReader(io.StringIO(as_csv([prediction((0.9, 0.1))], CLASSES))))
    assert alone["sd_anger"] == ""
    frames = list(csv.DictReader(io.StringIO(attention_csv([prediction((0.9, 0.1))]))))
    assert [(row["file"], row["start_s"], row["weight"]) for row in frames] == [
        ("a.wav", "0.0", "0.5"),
        ("a.wav", "0.02", "0.25"),
    ]


def test_json_has_everything() -> None:
    found = [prediction((0.9, 0.1), (0.7, 0.3))]
    value = json.loads(as_json(found, [Failure("b.wav", "b.wav: broken")], ensemble(2), "1 hidden"))
    assert value["model"]["networks"] == [{"fold": "s0", "seed": 0}, {"fold": "s1", "seed": 0}]
    one = value["predictions"][0]
    assert one["probabilities"] == {"anger": 0.8, "joy": 0.2}
    assert one["attention"] == {
        "segment": [0, 0],
        "start_s": [0.0, 0.02],
        "end_s": [0.025, 0.045],
        "weight": [0.5, 0.25],
        "padding_of_segments": [0.25],
    }
    assert value["failed"] == [{"file": "b.wav", "reason": "b.wav: broken"}]
    assert value["skipped"] == "1 hidden"


def test_names_that_are_no_text_can_be_shown() -> None:
    assert shown(os.fsdecode(b"caf\xe9.wav")) == "caf\\xe9.wav"
    assert shown("café.wav") == "café.wav"


def test_far_apart_log_probabilities_neither_overflow_nor_vanish() -> None:
    np.testing.assert_allclose(
        normalised(np.array([[-2000.0, -2001.0]])), [[0.7310586, 0.2689414]], rtol=1e-6
    )


def test_a_prediction_says_emotion_and_probability() -> None:
    assert repr(prediction((0.9, 0.1), (0.7, 0.3))) == "Prediction('a.wav': anger, 80.0 %)"
