"""Predictions from audio: the same as the run's own, whatever the file is called and packed in."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from grid_factory import write_grid
from voice_factory import cross_validate, trained

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.recipe.choices import BATCH_SIZE
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.inference import predictor as module
from mfhca_train.inference.ensemble import read_run
from mfhca_train.inference.prediction import Failure
from mfhca_train.inference.predictor import Predictor
from mfhca_train.model.saved import load_network
from mfhca_train.runs.ablation import ablate
from mfhca_train.runs.plan import Request


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def stored(run: Path, speaker: str) -> tuple[list[str], np.ndarray]:
    """Names and log-probabilities of a fold's predictions.csv."""
    with open(run / f"model/seed-0/fold-{speaker}/predictions.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [row[0] for row in rows], np.array([[float(value) for value in row[4:]] for row in rows])


def test_a_held_out_speaker_gets_the_stored_predictions_to_the_last_bit() -> None:
    made = trained()
    for speaker in sorted({u.speaker for u in made.manifest.utterances})[:2]:
        names, expected = stored(made.run, speaker)
        predictor = Predictor.open(made.run, made.backbone, speaker=speaker)
        found = predictor.predict(made.audio(speaker))
        assert [Path(one.name).stem for one in found] == names
        np.testing.assert_array_equal(np.concatenate([one.log_probabilities for one in found]), expected)
        assert max(one.segments for one in found) > 1
        assert {one.seen_by for one in found} == {0}


def test_a_file_alone_gets_what_it_gets_in_company_and_order_is_kept() -> None:
    made = trained()
    predictor = Predictor.from_run(made.run, made.backbone)
    paths = made.audio("1F")[::-1]
    together = predictor.predict(paths)
    assert [one.name for one in together] == [str(path) for path in paths]
    for path, one in zip(paths, together, strict=True):
        (alone,) = predictor.predict([path])
        np.testing.assert_allclose(alone.probabilities, one.probabilities, atol=1e-5)


def test_other_containers_rates_and_channels_of_the_same_sound_agree(tmp_path: Path) -> None:
    made = trained()
    path = made.audio("1F")[0]
    samples, rate = soundfile.read(path)
    high = soxr.resample(samples, rate, 44_100)
    soundfile.write(tmp_path / "copy.flac", samples, rate)
    soundfile.write(tmp_path / "stereo.wav", np.stack([high, high], axis=1), 44_100, subtype="FLOAT")
    shutil.copy(path, tmp_path / "renamed.dat")
    predictor = Predictor.from_run(made.run, made.backbone)
    wav, flac, stereo, renamed = predictor.predict(
        [path, *(tmp_path / name for name in ("copy.flac", "stereo.wav", "renamed.dat"))]
    )
    array = predictor.predict_array(samples, rate)
    for same in (flac, renamed, array):
        np.testing.assert_allclose(same.log_probabilities, wav.log_probabilities, atol=1e-5)
    np.testing.assert_allclose(stereo.probabilities, wav.probabilities, atol=0.02)
    # Of four, one held the speaker out. Resampled to another rate, the samples are others.
    assert [one.seen_by for one in (wav, renamed, flac, array, stereo)] == [3, 3, 3, 3, 0]


def test_from_run_takes_row_and_speaker_like_the_command(tmp_path: Path) -> None:
    made = trained()
    one = Predictor.from_run(made.run, made.backbone, speaker="2F")
    assert [member.card.fold for member in one.ensemble.members] == ["2F"]
    with pytest.raises(MfhcaError, match="no network was tested on speaker X"):
        Predictor.from_run(made.run, made.backbone, speaker="X")
    grid = write_grid(
        tmp_path / "grid.toml",
        '[[row]]\nname = "one"\nreference = true\n'
        '[[row]]\nname = "two"\nset = { "model.mask_padding" = true }\n',
    )
    settings = {"model.inputs": "spec", "model.grf_channels": "4,4", "train.epochs": "1"}
    config = with_settings(Config(), settings)
    ablate(
        Request(
            made.manifest.path,
            made.cache,
            tmp_path / "run",
            config,
            folds=("1F", "2F"),
            jobs=1,
            device="cpu",
            analysis=False,
        ),
        grid,
    )
    with pytest.raises(MfhcaError, match="name one with --row: one, two"):
        Predictor.from_run(tmp_path / "run")
    chosen = Predictor.from_run(tmp_path / "run", row="two", speaker="2F")
    assert chosen.ensemble.config.model.mask_padding
    assert [member.card.fold for member in chosen.ensemble.members] == ["2F"]
    path = made.audio("2F")[0]
    opened = Predictor.open(tmp_path / "run", row="two", speaker="2F")
    np.testing.assert_array_equal(
        chosen.predict([path])[0].probabilities, opened.predict([path])[0].probabilities
    )


def test_the_ensemble_is_the_mean_of_what_its_networks_say_alone() -> None:
    made = trained()
    path = next(p for p in made.audio("2M") if soundfile.info(p).duration > 3)
    found = Predictor.from_run(made.run, made.backbone).predict([path])[0]
    alone = []
    for speaker in ("1F", "1M", "2F", "2M"):
        one = Predictor.open(made.run, made.backbone, speaker=speaker).predict([path])[0]
        assert one.spread is None
        raised = [np.exp(float(value)) for value in one.log_probabilities[0]]
        alone.append([value / sum(raised) for value in raised])
    expected = [sum(column) / 4 for column in zip(*alone, strict=True)]
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-6)
    deviation = [
        (sum((value - mean) ** 2 for value in column) / 3) ** 0.5
        for column, mean in zip(zip(*alone, strict=True), expected, strict=True)
    ]
    assert found.spread is not None
    np.testing.assert_allclose(found.spread, deviation, rtol=1e-5)
    assert found.emotion == found.classes[int(np.argmax(expected))]
    assert [found.votes[name] for name in found.classes] == np.bincount(
        np.argmax(alone, axis=1), minlength=len(found.classes)
    ).tolist()


def test_attention_is_the_networks_own_at_its_times() -> None:
    """Against the fusion's weights of the held-out fold's network on cached features."""
    made = trained()
    paths = made.audio("1M")
    found = Predictor.open(made.run, made.backbone, speaker="1M").predict(paths, attention=True)
    config = read_run(made.run).config
    classes = len(found[0].classes)
    network, inputs = load_network(made.run / "model/seed-0/fold-1M", config.model, classes)
    recipes = choose_recipes(made.cache, "both")
    with Corpus(recipes, made.manifest.utterances, made.manifest.label_set()) as corpus:
        segments = corpus.segments(corpus.of_speakers(["1M"]))
        (batch,) = corpus.batches(segments, np.arange(len(segments)), 64, inputs.normalisers)
        with torch.inference_mode():
            expected = network(*batch.inputs).attention.numpy()
    row = 0
    for path, one in zip(paths, found, strict=True):
        attention = one.attention
        assert attention is not None
        for segment in range(one.segments):
            own = attention.segment == segment
            count, valid = int(own.sum()), int(segments.valid["ssl"][row])
            assert count == valid
            np.testing.assert_allclose(attention.weights[own], expected[row, :valid], atol=1e-6)
            np.testing.assert_allclose(
                attention.weights[own].sum() + attention.padding[segment], 1, atol=1e-6
            )
            np.testing.assert_allclose(
                attention.starts[own], 3 * segment + 0.02 * np.arange(count), atol=1e-9
            )
            row += 1
        assert attention.ends.max() <= soundfile.info(path).duration + 1e-9
        np.testing.assert_allclose(attention.ends[0] - attention.starts[0], 0.025)


def test_a_bad_file_is_named_and_the_others_are_judged(tmp_path: Path) -> None:
    made = trained()
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty.wav").touch()
    good = made.audio("1F")[:2]
    paths = [tmp_path / "text.wav", good[0], tmp_path / "empty.wav", tmp_path / "gone.wav", good[1]]
    predictor = Predictor.from_run(made.run, made.backbone)
    outcome = list(predictor.each(paths))
    failed = {Path(one.name).name: one.reason for one in outcome if isinstance(one, Failure)}
    assert sorted(failed) == ["empty.wav", "gone.wav", "text.wav"]
    assert "not readable as audio (unknown format)" in failed["text.wav"]
    assert "manifest" not in "".join(failed.values())
    assert [one.name for one in outcome if not isinstance(one, Failure)] == [str(path) for path in good]
    with pytest.raises(MfhcaError, match=r"text\.wav: not readable as audio"):
        predictor.predict(paths)


def test_very_short_and_long_recordings_are_judged() -> None:
    made = trained()
    samples = np.concatenate([soundfile.read(path)[0] for path in made.audio("1F")])
    predictor = Predictor.open(made.run, made.backbone, speaker="1F")
    short = predictor.predict_array(samples[:160], 16_000, attention=True)
    long = predictor.predict_array(np.tile(samples, 20)[: 200 * 16_000], 16_000)
    assert (short.segments, long.segments) == (1, 67)  # more than one batch of the networks
    assert short.attention is not None
    assert len(short.attention.weights) == 1
    for one in (short, long):
        np.testing.assert_allclose(one.probabilities.sum(), 1)
        assert np.isfinite(one.log_probabilities).all()
    with pytest.raises(MfhcaError, match="sample 3 is not a finite number"):
        predictor.predict_array(np.array([0, 0, 0, np.nan]), 16_000)
    with pytest.raises(MfhcaError, match=r"int16 .* expected floating point"):
        predictor.predict_array(np.zeros(9, np.int16), 16_000)


def test_another_encoder_is_refused_and_both_are_named(tmp_path: Path) -> None:
    made = trained()
    with pytest.raises(MfhcaError, match=r"ssl-hubert-demo, weights \w{12}\.\.\..* pass --backbone"):
        Predictor.from_run(made.run)
    other = shutil.copytree(made.backbone, tmp_path / "other")
    text = (other / "config.json").read_text()
    (other / "config.json").write_text(text + "\n")
    with pytest.raises(
        MfhcaError,
        match=r"other: not the encoder .*ssl-hubert-demo.*config_sha256 is \w{12}, expected \w{12}",
    ):
        Predictor.from_run(made.run, other)
    (other / "config.json").write_text(text)
    preprocessor = other / "preprocessor_config.json"
    changed = preprocessor.read_text().replace('"do_normalize": true', '"do_normalize": false')
    assert changed != preprocessor.read_text()
    preprocessor.write_text(changed)
    with pytest.raises(MfhcaError, match="normalise is False, expected True"):
        Predictor.from_run(made.run, other)


def test_networks_on_spectrograms_alone_need_no_encoder(tmp_path: Path) -> None:
    made = trained()
    run = cross_validate(
        made.manifest.path,
        made.cache,
        tmp_path / "run",
        "--fold",
        "2F",
        model__inputs="spec",
        train__ssl_norm=None,
    )
    names, expected = stored(run, "2F")
    found = Predictor.open(run).predict(made.audio("2F"))
    assert [Path(one.name).stem for one in found] == names
    np.testing.assert_array_equal(np.concatenate([one.log_probabilities for one in found]), expected)
    with pytest.raises(MfhcaError, match="would be ignored"):
        Predictor.open(run, made.backbone)
    with pytest.raises(MfhcaError, match=r"model\.inputs=spec, .* have no attention over time"):
        Predictor.open(run).predict(made.audio("2F"), attention=True)


def test_normalisation_per_speaker_takes_all_recordings_of_a_speaker_together(tmp_path: Path) -> None:
    made = trained()
    run = cross_validate(
        made.manifest.path,
        made.cache,
        tmp_path / "run",
        "--fold",
        "2F",
        train__ssl_norm="speaker",
        train__spec_norm="speaker",
    )
    names, expected = stored(run, "2F")
    paths = made.audio("2F")
    with pytest.raises(MfhcaError, match=r"all recordings of a speaker together, .* with --one-speaker"):
        Predictor.open(run, made.backbone)
    predictor = Predictor.open(run, made.backbone, one_speaker=True)
    found = predictor.predict(paths)
    assert [Path(one.name).stem for one in found] == names
    got = np.concatenate([one.log_probabilities for one in found])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    (alone,) = predictor.predict(paths[:1])  # scaled by its own statistics
    assert np.abs(alone.log_probabilities - expected[:1]).max() > 1e-3


def test_defaults_are_those_of_the_cache() -> None:
    assert module.BATCH_SIZE == BATCH_SIZE
