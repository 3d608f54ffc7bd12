"""doctor with a corpus: manifest, audio, encoder, features, disk space."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from audio_factory import manifest_of
from click.testing import CliRunner
from doctor_factory import ask, of_corpus

from mfhca_cache.cli import main
from mfhca_cache.common import hardware
from mfhca_cache.doctor import corpus as doctor
from mfhca_cache.manifest.manifest import read_manifest
from mfhca_cache.manifest.utterance import Utterance


def test_a_corpus_with_all_its_features_is_ready(corpus: Path) -> None:
    result = ask(*of_corpus(corpus, kind="logspec"))
    assert result.exit_code == 0, result.output
    assert "8 utterances, 8 in label set all (anger, joy), 4 speakers" in result.stdout
    assert "8 audio files found, by name" in result.stdout
    assert "4 of 4 speakers have logspec features" in result.stdout


def test_features_that_are_missing_come_with_their_command_and_their_size(corpus: Path) -> None:
    result = ask(*of_corpus(corpus, backbone=corpus / "hubert"))
    assert result.exit_code == 1
    assert (
        f"missing: {corpus / 'cache'}: 0 of 4 speakers have ssl features; mfhca-cache features {corpus / 'rows.csv'} "
        f"--root {corpus / 'audio'} --cache {corpus / 'cache'} --backbone {corpus / 'hubert'} "
        "--kind logspec --kind ssl" in result.stdout
    )
    assert "about 0.00 GB would be written" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 missing; follow the instructions above, then run doctor again"
    done = CliRunner().invoke(main, [*re.findall(r"mfhca-cache (.*)", result.stdout)[0].split(), "--dry-run"])
    assert done.exit_code == 0, "the command that is proposed is one"


def test_features_made_with_other_options_are_looked_for_with_them(corpus: Path, tmp_path: Path) -> None:
    made = ["--kind", "logspec", "--tail", "overlap", "--minimum-tail", "400", "--dtype", "float32"]
    places = of_corpus(corpus, cache=tmp_path / "cache")
    assert CliRunner().invoke(main, ["features", *map(str, places), *made]).exit_code == 0
    result = ask(*places, *made)
    assert result.exit_code == 0, result.output
    assert "4 of 4 speakers have logspec features" in result.stdout
    result = ask(*places, *made[:-2])
    assert result.exit_code == 1
    assert "0 of 4 speakers have logspec features (logspec-" in result.stdout
    assert result.stdout.count("--kind logspec --tail overlap --minimum-tail 400\n") == 1
    result = ask(*places, "--kind", "logspec", "--layer", "6")
    assert result.exit_code == 2
    assert "--layer has no effect without --kind ssl" in result.stderr


def test_audio_that_is_missing_or_elsewhere_is_named(corpus: Path, tmp_path: Path) -> None:
    result = ask(*of_corpus(corpus, root=tmp_path, kind="logspec"))
    assert (
        f"missing: {tmp_path}: 8 of 8 audio files missing, the first is a/a1.wav; check --root"
        in result.stdout
    )
    result = ask(*of_corpus(corpus, root=tmp_path / "none", kind="logspec"))
    assert f"missing: {tmp_path / 'none'}: no such folder; pass the corpus folder as --root" in result.stdout
    assert result.exit_code == 1
    (tmp_path / "none").symlink_to("/mnt/absent")
    result = ask(*of_corpus(corpus, root=tmp_path / "none", kind="logspec"))
    assert f"missing: {tmp_path / 'none'}: a symlink to /mnt/absent, and there is no such" in result.stdout


def test_q_tells_only_what_is_not_sound(corpus: Path) -> None:
    result = ask("-q", *of_corpus(corpus, kind="logspec", root=corpus / "none"))
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:-1]] == ["missing"]


def test_a_manifest_or_label_set_that_is_not_there_is_missing(corpus: Path, tmp_path: Path) -> None:
    result = ask(tmp_path / "none.csv")
    assert result.exit_code == 1
    assert "none.csv: no such manifest; `mfhca-cache manifest CORPUS" in result.stdout
    assert "no label set 'nine'" in ask(corpus / "rows.csv", "--label-set", "nine").stdout


def test_an_encoder_that_is_not_here_is_missing_offline(corpus: Path) -> None:
    result = ask(*of_corpus(corpus, backbone="some/where"))
    assert result.exit_code == 1
    assert "encoder some/where: neither a folder nor in the hub's cache" in result.stdout
    assert "download it on another machine and pass its folder" in result.stdout


def test_a_limit_of_open_files_below_the_number_of_shards_is_missing(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "open_files_limit", lambda: 30)
    assert "missing: training opens" in ask(*of_corpus(corpus, kind="logspec")).stdout
    monkeypatch.setattr(hardware, "open_files_limit", lambda: 1024)
    assert "training opens" not in ask(*of_corpus(corpus, kind="logspec")).stdout


def test_more_features_than_the_disk_has_room_for_are_refused(tmp_path: Path) -> None:
    hours = [
        Utterance(f"a{n}", f"a/a{n}.wav", "abcd"[n], "anger", samples=10**14, sample_rate=16_000)
        for n in range(4)
    ]
    manifest_of(tmp_path / "long.csv", [*hours[:3], Utterance("x", "b/b1.wav", "d", "joy")])
    result = ask(tmp_path / "long.csv", "--cache", tmp_path / "cache", "--kind", "logspec")
    assert re.search(
        r"missing: \d+\.\d GB would be written, \d+\.\d GB are free; free disk space", result.stdout
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["a joy", "a sad"], "a single speaker (a): at least two are required; check the column speaker"),
        (
            ["a joy", "a sad", "b joy", "b sad"],
            "2 speakers: training, validation and test need three; add speakers",
        ),
        (
            ["a joy", "a sad", "b joy", "b sad", "c joy", "c sad"],
            "3 speakers: the protocol strict needs 4; pass `cv` the option --set train.validation_speakers=1",
        ),
        (
            ["a joy", "b sad", "c joy", "d sad"],
            "every speaker has a single class, so that a network cannot learn classes across speakers; check",
        ),
        (
            ["a joy", "a sad", "b joy", "b fear", "c joy", "c sad", "d joy", "d sad"],
            "classes that a single speaker has: fear (b), so that nobody is left to train them when this speaker is "
            "tested; use a label set without them, or add speakers",
        ),
        (
            ["joy joy", "joy sad", "b joy", "b sad"],
            "speakers are named like classes (joy); check the column speaker",
        ),
    ],
)
def test_speakers_that_make_a_cross_validation_impossible_are_warned_of(
    tmp_path: Path, rows: list[str], expected: str
) -> None:
    table = [Utterance(f"u{i}", f"u{i}.wav", *row.split()) for i, row in enumerate(rows)]
    manifest_of(tmp_path / "rows.csv", table)
    printed = ask(tmp_path / "rows.csv").stdout
    assert f"warn: {tmp_path / 'rows.csv'}: {expected}" in printed


def test_enough_speakers_are_not_warned_of(tmp_path: Path) -> None:
    rows = [Utterance(f"{s}{e}", f"{s}{e}.wav", s, e) for s in "abcd" for e in ("joy", "sad")]
    table = manifest_of(tmp_path / "rows.csv", rows).path
    printed = ask(table).stdout
    assert f"warn: {table}" not in printed
    assert f"ok: {table}: 8 utterances, 8 in label set all (joy, sad), 4 speakers" in printed


def test_files_that_there_was_no_time_to_compare_are_counted(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = of_corpus(corpus, kind="logspec")
    shutil.copy(corpus / "audio/d/d1.wav", corpus / "audio/x.wav")
    rows = [*read_manifest(corpus / "rows.csv").utterances, Utterance("x", "x.wav", "a", "joy")]
    arguments[0] = manifest_of(corpus / "copies.csv", rows).path
    assert "1 pair of identical recordings under two speakers" in ask(*arguments).stdout
    monkeypatch.setattr(doctor, "FILE_CHECK_SECONDS", -1.0)
    printed = ask(*arguments).stdout
    assert "1 audio file (the first of 9) found, by name" in printed
    assert (
        "compared byte by byte; 2 of 2 files of equal size were not (`features` compares all files" in printed
    )
