"""Whole runs: the same results however they came about, and plain words when something is wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from corpus_factory import (
    CLASSES,
    SPEC,
    SPEC_SHAPE,
    SSL,
    SSL_SHAPE,
    request,
    utterances,
    write_features,
)
from cv_factory import cv_command, fails
from places import FACTORIES
from run_factory import tree
from sklearn import metrics as reference

from mfhca_cache.common.files import sha256_text
from mfhca_cache.recipe.folder import folder_for, write_recipe
from mfhca_train.cli.main import main
from mfhca_train.data.folds import PROTOCOLS
from mfhca_train.results.checksums import read_sealed, write_result
from mfhca_train.runs.crossval import cross_validate


def test_results_equal_scikit_learn_over_all_predictions(finished: Path) -> None:
    results = json.loads((finished / "run/results.json").read_text())
    for seed in (0, 1):
        rows = []
        for fold in sorted((finished / f"run/model/seed-{seed}").glob("fold-*")):
            with open(fold / "predictions.csv", newline="") as file:
                rows += list(csv.DictReader(file))
        assert sorted(r["utterance"] for r in rows) == sorted(u.utterance for u in utterances())
        truth, predicted = [r["label"] for r in rows], [r["prediction"] for r in rows]
        pooled = reference.confusion_matrix(truth, predicted, labels=CLASSES)
        units = [u for u in results["folds"] if u["seed"] == seed]
        assert np.sum([u["confusion"] for u in units], axis=0).tolist() == pooled.tolist()
    wa = np.array([[u["wa"] for u in results["folds"] if u["seed"] == seed] for seed in (0, 1)])
    assert results["wa"]["mean"] == pytest.approx(wa.mean())
    assert results["wa"]["std"] == pytest.approx(wa.mean(axis=0).std(ddof=1))
    assert results["wa"]["seed_std"] == pytest.approx(wa.mean(axis=1).std(ddof=1))
    assert results["n_utterances"] == len(utterances())
    assert results["complete"]
    assert results["breakdown"]["duration"]["under 3 s"]["n"] == 2 * len(utterances())


def test_a_fold_alone_gives_the_same_bytes_and_says_that_it_is_not_all(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "x", ignore=shutil.ignore_patterns("run"))
    result = cv_command(tmp_path / "x", "--fold", "s2")
    assert result.exit_code == 0, result.output
    assert "NOT COMPLETE: only 1 fold;" in result.output
    alone = tree(tmp_path / "x/run/model/seed-0/fold-s2")
    assert alone == tree(finished / "run/model/seed-0/fold-s2")


def test_killed_at_random_moments_a_run_ends_with_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    """The parent is killed with -9 while two workers train; they must not outlive it and hold the folds."""
    folder = tmp_path / "x"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("run"))
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from corpus_factory import request; from mfhca_train.runs.crossval import cross_validate\n"
        "if __name__ == '__main__':\n"
        "    print('ready', flush=True)\n"
        "    cross_validate(request(Path(sys.argv[2]), seeds=(0, 1), jobs=2))\n"
    )
    arguments = [sys.executable, "-c", script, str(FACTORIES), str(folder)]
    rng = np.random.default_rng(1)
    for _ in range(5):
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.5, 4))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for unit in (folder / "run").rglob("fold-*"):
            if not unit.name.startswith("."):
                assert (unit / "result.json").exists()
    cross_validate(request(folder, seeds=(0, 1), jobs=2))
    assert tree(folder / "run") == tree(finished / "run")


def test_utterances_outside_the_label_set_change_nothing(tmp_path: Path) -> None:
    card = (
        'name = "corpus"\ntitle = "t"\ncitation = "c"\nlicence = "l"\nsource = "s"\nlayout = "l"\n'
        'labels = ["anger", "joy", "neutral", "sorrow", "fru"]\ndefault_set = "four"\n[classes.four]\n'
        + "".join(f'{c} = "{c}"\n' for c in CLASSES)
    )
    found = []
    for name, rows in (("a", utterances()), ("b", utterances(extra_label="fru"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "corpus.toml").write_text(card)
        cross_validate(request(tmp_path / name, rows, folds=("s1",)))
        found.append(tree(tmp_path / name / "run"))
    assert found[0] == found[1]


@pytest.mark.parametrize("protocol", sorted({*PROTOCOLS} - {"corpus"}))
def test_every_protocol_runs_to_results_and_oracles_are_marked(tmp_path: Path, protocol: str) -> None:
    rows = utterances(speakers=6, each=4, sessions=True)
    if protocol == "column":
        rows = [replace(u, fold=u.session) for u in rows]
    settings = {"train.epochs": "1"} | ({"train.groups": "3"} if protocol == "group-k" else {})
    results = cross_validate(request(tmp_path, rows, settings, protocol=protocol))
    tested = [s for unit in results["folds"] for s in unit["test_speakers"]]
    assert sorted(tested) == sorted({u.speaker for u in rows})
    assert results["n_utterances"] == len(rows)
    assert results["oracle"] == protocol.startswith("oracle")
    assert ("select" in (tmp_path / "run/report.html").read_text()) or not results["oracle"]


def test_the_command_prints_each_fold_and_the_headline(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "x")
    result = cv_command(tmp_path / "x", "--seeds", "2")
    assert result.exit_code == 0, result.output
    results = json.loads((finished / "run/results.json").read_text())
    for unit in results["folds"]:
        assert re.search(
            rf"^{unit['id']} +{unit['seed']} +{100 * unit['wa']:.2f} ", result.output, re.MULTILINE
        )
    assert f"{100 * results['wa']['mean']:6.2f}" in result.output
    assert "(headline)" in result.output
    assert "report.html" in result.output


def test_features_of_one_kind_computed_from_other_audio_are_named_with_both_digests(tmp_path: Path) -> None:
    request(tmp_path)
    shutil.rmtree(folder_for(tmp_path / "cache", SPEC))
    write_features(tmp_path / "cache", utterances(), version={"s1_1": 1}, kinds=((SPEC, SPEC_SHAPE),))
    digests = [sha256_text(f"s1_1/{take}/False")[:16] for take in (0, 1)]
    fails(cv_command(tmp_path), "utterance s1_1 (s1_1.wav): its features come from different audio", *digests)


def test_a_flipped_byte_in_the_features_stops_cv_before_it_trains(tmp_path: Path) -> None:
    request(tmp_path)
    path = folder_for(tmp_path / "cache", SSL) / "s1.h5"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    fails(cv_command(tmp_path), "s1.h5", "mfhca-cache features")
    assert not list((tmp_path / "run").rglob("best.safetensors"))


def test_a_truncated_shard_a_missing_one_and_an_empty_cache_are_named(tmp_path: Path) -> None:
    request(tmp_path)
    path = folder_for(tmp_path / "cache", SPEC) / "s2.h5"
    path.write_bytes(path.read_bytes()[:-100])
    fails(cv_command(tmp_path), "s2.h5")
    path.unlink()
    fails(cv_command(tmp_path), "no features of speaker s2", "mfhca-cache features")
    shutil.rmtree(tmp_path / "cache")
    fails(cv_command(tmp_path), "no logspec features", "mfhca-cache features")


def test_two_backbones_in_a_cache_must_be_told_apart(tmp_path: Path) -> None:
    request(tmp_path)
    other = replace(SSL, weights_sha256="2" * 64)
    folder = folder_for(tmp_path / "cache", other, "ssl-other")
    write_recipe(folder, other, SSL_SHAPE)
    fails(cv_command(tmp_path), "2 recipes of ssl features", "ssl-other")
    fails(cv_command(tmp_path, "--ssl", "other"), "no features of")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "train.lrr=1"], ["no setting is called 'train.lrr'; did you mean train.lr"]),
        (["--fold", "s9"], ["no fold is called 's9'; there are: s0, s1, s2, s3"]),
        (["--label-set", "nine"], ["nine"]),
        (["--device", "tpu"], ["device 'tpu' is not available here"]),
        (["--protocol", "session"], ["without a session"]),
    ],
)
def test_wrong_wishes_are_answered_in_one_line(
    finished: Path, tmp_path: Path, more: list[str], words: list[str]
) -> None:
    shutil.copytree(finished, tmp_path / "x", ignore=shutil.ignore_patterns("run"))
    fails(cv_command(tmp_path / "x", *more), *words)


def test_wrong_usage_is_exit_code_2(tmp_path: Path) -> None:
    for arguments in (
        ["cv"],
        ["cv", "m.csv", "--cache", "c", "--out", "o", "--set", "x"],
        ["cv", "--protocol", "none"],
    ):
        if "x" in arguments:
            request(tmp_path)
            arguments[1] = str(tmp_path / "corpus.csv")
        assert CliRunner().invoke(main, arguments).exit_code == 2


def test_units_of_another_run_are_refused_even_without_run_json(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "x")
    (tmp_path / "x/run/run.json").unlink()
    fails(cv_command(tmp_path / "x", "--protocol", "oracle"), "trained with other settings or data")


def test_predictions_that_do_not_fit_the_result_are_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "x")
    path = tmp_path / "x/run/model/seed-0/fold-s1/predictions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    fails(cv_command(tmp_path / "x"), "fold-s1/predictions.csv: damaged")
    write_result(path.parent, read_sealed(path.parent / "result.json"))  # with the digest of the shorter file
    fails(cv_command(tmp_path / "x"), "fold-s1/predictions.csv: does not fit result.json")


def test_a_fold_asked_for_again_leaves_the_whole_result(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "x")
    before = tree(tmp_path / "x/run")
    assert cv_command(tmp_path / "x", "--fold", "s1").exit_code == 0
    assert tree(tmp_path / "x/run") == before


def test_weights_that_diverged_give_no_score(tmp_path: Path) -> None:
    request(tmp_path)
    wild = (
        "--set",
        "train.lr=10",
        "--set",
        "train.weight_decay=1e6",
        "--set",
        "train.epochs=1",
        "--fold",
        "s0",
    )
    fails(cv_command(tmp_path, *wild), "lower train.lr")


def test_features_cut_in_different_ways_are_refused(tmp_path: Path) -> None:
    request(tmp_path)
    shutil.rmtree(folder_for(tmp_path / "cache", SPEC))
    other = replace(SPEC, tail="overlap")
    write_recipe(folder_for(tmp_path / "cache", other), other, (24, 16))
    (folder_for(tmp_path / "cache", other) / "s0.h5").touch()
    fails(cv_command(tmp_path), "cut the audio differently (tail: overlap and pad)")
