from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_factory import KINDS, SSL, write_features
from run_factory import Page, leave_out_pictures, tree
from several_factory import MAP, NAMES, corpus_rows, several_request, trained_on_several, write_corpora

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import folder_for
from mfhca_cache.store.reader import Features
from mfhca_train.config.parse import with_settings
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.data.labelled import Source
from mfhca_train.model.saved import load_inputs
from mfhca_train.results.checksums import read_rows, read_sealed
from mfhca_train.results.schema import CV_ROW, unit_folder
from mfhca_train.runs.crossval import cross_validate
from mfhca_train.runs.features import OpenFeatures
from mfhca_train.runs.plan import read_labels

CORPUS_NORM = {"train.ssl_norm": "corpus"}


@pytest.fixture(scope="module", autouse=True)
def _no_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        leave_out_pictures(patch)
        yield


@pytest.fixture(scope="module")
def corpora() -> Path:
    return trained_on_several()


@pytest.fixture(scope="module")
def finished(corpora: Path) -> tuple[Path, dict[str, Any]]:
    """A run of the protocol corpus with its results."""
    return corpora / "run", read_sealed(corpora / "run/results.json")


def weights(run: Path, fold: str) -> bytes:
    return (unit_folder(run, CV_ROW, 0, fold) / "best.safetensors").read_bytes()


def test_each_corpus_is_tested_by_networks_that_saw_nothing_of_it(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    run, results = finished
    assert [fold["id"] for fold in results["folds"]] == [*NAMES]
    tested = []
    for fold in results["folds"]:
        unit = read_sealed(unit_folder(run, CV_ROW, 0, fold["id"]) / "result.json")
        sides = [{*unit[f"{side}_speakers"]} for side in ("train", "validation", "test")]
        assert sides[2] == {f"{fold['id']}/s{k}" for k in range(3)}
        assert sum(map(len, sides)) == len(set().union(*sides)) == 9
        assert Counter(s.partition("/")[0] for s in sides[1]) == dict.fromkeys({*NAMES} - {fold["id"]}, 2)
        tested += [
            row["utterance"] for row in read_rows(unit_folder(run, CV_ROW, 0, fold["id"]) / "predictions.csv")
        ]
    assert sorted(tested) == sorted(f"{name}/{u.utterance}" for name in NAMES for u in corpus_rows(name))


def test_scores_by_corpus_are_those_of_its_utterances(finished: tuple[Path, dict[str, Any]]) -> None:
    run, results = finished
    assert results["corpora"]["gamma"]["classes"] == {
        "anger": "anger",
        "happy": "joy",
        "neutral": "neutral",
        "sad": "sorrow",
    }
    for name in NAMES:
        rows = read_rows(unit_folder(run, CV_ROW, 0, name) / "predictions.csv")
        right = [row["label"] == row["prediction"] for row in rows]
        found = results["breakdown"]["corpus"][name]
        assert (found["n"], found["wa"]) == (12, pytest.approx(np.mean(right)))
    page = Page(run / "report.html")
    assert "By corpus" in page.text
    assert [row[0] for row in page.table("Group")[1:]] == [*NAMES]
    assert "normalised over all utterances of each corpus, test corpora included" in page.text
    assert results["transductive"]
    assert "cv manifests/alpha.csv manifests/beta.csv manifests/gamma.csv" in page.text
    assert "--map gamma/happy=joy" in page.text


def test_the_order_of_manifests_changes_nothing(corpora: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    """A run of the other order is the same run, of which nothing is left to train."""
    before = tree(finished[0])
    assert cross_validate(several_request(corpora, CORPUS_NORM, NAMES[::-1])) == finished[1]
    assert tree(finished[0]) == before


def test_a_class_map_that_was_edited_is_another_run(
    corpora: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished[0], tmp_path / "run"))
    swapped = {"gamma": {"happy": "sorrow", "sad": "joy"}}
    with pytest.raises(
        MfhcaError, match=r"(?s)another run.*gamma\.classes\.happy: joy in that run, sorrow now"
    ):
        cross_validate(several_request(corpora, CORPUS_NORM, out=out, class_map=swapped))


def permuted(rows: list[Utterance]) -> list[Utterance]:
    labels = [u.emotion for u in rows]
    return [replace(u, emotion=label) for u, label in zip(rows, labels[1:] + labels[:1], strict=True)]


@pytest.mark.parametrize("what", ["labels", "features"])
def test_nothing_of_the_test_corpus_reaches_its_network(
    tmp_path: Path, finished: tuple[Path, dict[str, Any]], what: str
) -> None:
    """Also with normalisation per corpus: the statistics of the test corpus scale its own features alone."""
    write_corpora(tmp_path)
    rows = corpus_rows("beta")
    if what == "labels":
        write_manifest(tmp_path / "beta.csv", permuted(rows))
    else:
        shutil.rmtree(tmp_path / "beta")
        write_features(tmp_path / "beta", rows, version={u.utterance: 1 for u in rows}, kinds=KINDS[1:])
    results = cross_validate(several_request(tmp_path, CORPUS_NORM, folds=("beta", "alpha")))
    assert weights(tmp_path / "run", "beta") == weights(finished[0], "beta")
    assert weights(tmp_path / "run", "alpha") != weights(finished[0], "alpha")
    known = {fold["id"]: fold for fold in finished[1]["folds"]}
    (own,) = (fold for fold in results["folds"] if fold["id"] == "beta")
    assert own["best_epoch"] == known["beta"]["best_epoch"]
    histories = [
        unit_folder(run, CV_ROW, 0, "beta") / "history.csv" for run in (tmp_path / "run", finished[0])
    ]
    assert histories[0].read_bytes() == histories[1].read_bytes()


def frames(folder: Path, name: str, speakers: set[str]) -> Any:
    """The valid frames of some speakers of a corpus, read anew."""
    with Features.open(
        folder_for(folder / name, SSL), sorted({u.speaker for u in corpus_rows(name)})
    ) as features:
        parts = []
        for u in corpus_rows(name):
            if f"{name}/{u.speaker}" in speakers:
                values, valid = features.utterance(u.utterance)
                parts += [segment[:count] for segment, count in zip(values, valid, strict=True)]
    return np.concatenate(parts).astype(np.float64)


def test_each_corpus_is_scaled_by_its_training_frames_and_the_test_corpus_by_its_own(
    corpora: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    folder = unit_folder(finished[0], CV_ROW, 0, "gamma")
    unit = read_sealed(folder / "result.json")
    normaliser = load_inputs(folder).normalisers["ssl"]
    assert normaliser is not None
    assert normaliser.corpora == NAMES
    for index, name in enumerate(NAMES):
        speakers = unit["test_speakers"] if name == "gamma" else unit["train_speakers"]
        values = frames(corpora, name, {*speakers})
        np.testing.assert_allclose(normaliser.scale[index], 1 / values.std(axis=0), rtol=1e-5)
        np.testing.assert_allclose(
            normaliser.shift[index], -values.mean(axis=0) / values.std(axis=0), atol=1e-5
        )
    with OpenFeatures(read_labels(several_request(corpora))) as features:
        corpus = features.of(choose_recipes(corpora / "alpha", "ssl"))
        everything = np.arange(len(corpus.utterances))
        segments = corpus.segments(everything)
        (batch,) = corpus.batches(segments, np.arange(len(segments)), 1000, {"ssl": normaliser})
        of = np.array([corpus.utterances[i].corpus for i in segments.utterance])
        own = np.concatenate(
            [batch.ssl[k, : batch.ssl_valid[k]].numpy() for k in np.flatnonzero(of == "gamma")]
        )
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(own.std(axis=0), 1, atol=1e-5)


def test_equal_speakers_in_one_cache_do_not_meet(
    tmp_path: Path, corpora: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    """All three have speakers s0 to s2; one cache then keeps their utterances in the same shards."""
    every = [
        replace(u, emotion=MAP.get(name, {}).get(u.emotion, u.emotion))
        for name in NAMES
        for u in corpus_rows(name)
    ]
    write_features(tmp_path / "cache", sorted(every, key=lambda u: u.utterance), kinds=KINDS[1:])
    base = several_request(
        corpora, CORPUS_NORM, out=tmp_path / "run", folds=("gamma",), cache=tmp_path / "cache"
    )
    one = replace(base, others=tuple(Source(s.manifest, tmp_path / "cache") for s in base.others))
    cross_validate(one)
    for name in ("best.safetensors", "inputs.safetensors", "predictions.csv"):
        files = [unit_folder(run, CV_ROW, 0, "gamma") / name for run in (tmp_path / "run", finished[0])]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_utterances_that_one_cache_cannot_hold_twice_are_refused(tmp_path: Path, corpora: Path) -> None:
    (tmp_path / "copy.csv").write_bytes((corpora / "alpha.csv").read_bytes())
    twice = several_request(corpora, others=(Source(tmp_path / "copy.csv", corpora / "alpha"),), class_map={})
    with pytest.raises(
        MfhcaError, match=r"12 utterances with the same id and speaker in two corpora.*one --cache per"
    ):
        cross_validate(twice)


def test_one_recording_in_two_corpora_is_refused(tmp_path: Path, corpora: Path) -> None:
    (tmp_path / "copy.csv").write_bytes((corpora / "alpha.csv").read_bytes())
    shutil.copytree(corpora / "alpha", tmp_path / "copy")
    same = several_request(corpora, others=(Source(tmp_path / "copy.csv", tmp_path / "copy"),), class_map={})
    with pytest.raises(
        MfhcaError, match=r"12 pairs of identical recordings.*\n.*of speaker alpha/s0 and copy/"
    ):
        cross_validate(replace(same, out=tmp_path / "run"))


def test_corpora_with_other_features_are_refused(tmp_path: Path) -> None:
    write_corpora(tmp_path)
    shutil.rmtree(tmp_path / "beta")
    write_features(tmp_path / "beta", corpus_rows("beta"), kinds=((replace(SSL, layer=6), KINDS[1][1]),))
    with pytest.raises(
        MfhcaError, match=r"beta: no features of the recipe .*all corpora of a run need the same"
    ) as error:
        cross_validate(several_request(tmp_path))
    assert "layer" in str(error.value)


def test_classes_of_some_corpora_are_refused_by_name(corpora: Path) -> None:
    with pytest.raises(MfhcaError, match="gamma/happy: not in alpha, beta"):
        cross_validate(several_request(corpora, class_map={}))


def test_a_class_can_be_left_out(corpora: Path) -> None:
    without = {name: {"joy": ""} for name in ("alpha", "beta")} | {"gamma": {"happy": "", "sad": "sorrow"}}
    labelled = read_labels(several_request(corpora, class_map=without))
    assert labelled.label_set.classes == ("anger", "neutral", "sorrow")
    assert len(labelled.utterances) == 3 * 9


def test_label_sets_can_differ(corpora: Path) -> None:
    named = read_labels(several_request(corpora, label_set="gamma=all,alpha=all"))
    assert named.label_set.name == "all"
    with pytest.raises(MfhcaError, match=r"no corpus of this run is called 'gama'; did you mean gamma"):
        read_labels(several_request(corpora, label_set="gama=all"))


def test_two_corpora_of_one_name_are_refused(tmp_path: Path, corpora: Path) -> None:
    (tmp_path / "alpha.csv").write_bytes((corpora / "alpha.csv").read_bytes())
    with pytest.raises(MfhcaError, match="two of the manifests are of a corpus called 'alpha'"):
        read_labels(several_request(corpora, others=(Source(tmp_path / "alpha.csv", tmp_path),)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"others": (), "class_map": {}, "protocol": "oracle"}, "norm=corpus needs several manifests"),
        ({"protocol": "corpus", "others": (), "class_map": {}}, "pass two manifests or more"),
        ({"others": (), "protocol": "strict"}, "a class map .* joins several corpora"),
    ],
)
def test_what_needs_several_corpora_is_refused_for_one(
    corpora: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(MfhcaError, match=message):
        cross_validate(several_request(corpora, CORPUS_NORM, out=corpora / "absent", **changes))


def test_other_protocols_take_the_statistics_of_training_speakers_alone(
    tmp_path: Path, corpora: Path
) -> None:
    request = several_request(
        corpora, CORPUS_NORM, out=tmp_path / "run", protocol="strict", folds=("beta/s1",)
    )
    results = cross_validate(request)
    assert "transductive" not in results
    unit = unit_folder(tmp_path / "run", CV_ROW, 0, "beta/s1")
    normaliser = load_inputs(unit).normalisers["ssl"]
    assert normaliser is not None
    values = frames(corpora, "beta", {*read_sealed(unit / "result.json")["train_speakers"]})
    np.testing.assert_allclose(normaliser.scale[1], 1 / values.std(axis=0), rtol=1e-5)
    config = with_settings(request.config, {"train.validation_speakers": 4})
    with pytest.raises(MfhcaError, match=r"fold beta/s2: no training speaker of corpus \w+, whose"):
        cross_validate(replace(request, out=tmp_path / "x", config=config, folds=("beta/s2",)))
