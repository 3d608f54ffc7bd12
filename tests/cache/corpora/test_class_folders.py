"""Corpora with one folder for each class, and the looking that all corpora share."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from audio_factory import write_audio
from click.testing import CliRunner, Result

from mfhca_cache.cli import main
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora import scan as corpora
from mfhca_cache.corpora.class_folders import scan
from mfhca_cache.manifest.manifest import read_manifest

SPEAKER = r"([a-z]+)_\d+"


def write_corpus(root: Path) -> None:
    """Three speakers, two classes, in three formats."""
    for name in (
        "happy/anna_01.wav",
        "happy/bert_01.flac",
        "sad/anna_01.wav",
        "sad/bert_02.ogg",
        "sad/cleo_01.wav",
    ):
        write_audio(root / name, name, 0.05)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["manifest", *arguments])


def test_class_is_the_folder_and_speaker_the_group(tmp_path: Path) -> None:
    write_corpus(tmp_path / "mine")
    out = tmp_path / "mine.csv"
    result = call("folders", "--root", str(tmp_path / "mine"), "--speaker-regex", SPEAKER, "--out", str(out))
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: {out}: 3 speakers: the protocol strict needs 4; pass")
    assert result.stdout.splitlines() == [
        f"{out}: 5 utterances of 3 speakers",
        "label set all: 5 utterances: happy 2, sad 3",
        "  anna: 2 utterances: happy 1, sad 1",
        "  bert: 2 utterances: happy 1, sad 1",
        "  cleo: 1 utterance: happy 0, sad 1",
        "5 files used, none ignored",
    ]
    manifest = read_manifest(out)
    assert manifest.card is None
    assert not out.with_suffix(".toml").exists()
    assert manifest.label_set().classes == ("happy", "sad")
    rows = [(u.utterance, u.path, u.speaker, u.emotion, u.session, u.gender) for u in manifest.utterances]
    assert rows == [
        ("happy/anna_01", "happy/anna_01.wav", "anna", "happy", "", ""),
        ("happy/bert_01", "happy/bert_01.flac", "bert", "happy", "", ""),
        ("sad/anna_01", "sad/anna_01.wav", "anna", "sad", "", ""),
        ("sad/bert_02", "sad/bert_02.ogg", "bert", "sad", "", ""),
        ("sad/cleo_01", "sad/cleo_01.wav", "cleo", "sad", "", ""),
    ]
    assert {(u.samples, u.sample_rate) for u in manifest.utterances} == {(800, 16_000)}


@pytest.mark.parametrize(
    ("expression", "speaker"),
    [
        (r"^([^/]+)/", "room"),  # the first group
        (r"^(room)/.*/(?P<speaker>[a-z]+)\d", "anna"),  # the named one, wherever it stands
        (r"/(\d+)/", "17"),
    ],
)
def test_the_speaker_may_be_in_a_folder_or_in_the_name(expression: str, speaker: str, tmp_path: Path) -> None:
    write_audio(tmp_path / "room" / "17" / "angry" / "anna3.wav", "x", 0.05)
    (utterance,) = corpora.scan("folders", tmp_path, re.compile(expression)).utterances
    assert (utterance.speaker, utterance.emotion, utterance.utterance) == (
        speaker,
        "angry",
        "room/17/angry/anna3",
    )


def test_emotion_and_gender_are_found_in_the_path(tmp_path: Path) -> None:
    root, out = tmp_path / "mine", tmp_path / "mine.csv"
    for name in ("F03_joy_1", "F03_rage_1", "M05_joy_1", "M05_rage_1"):
        write_audio(root / "all" / f"{name}.wav", name, 0.05)
    write_audio(root / "all/F03.wav", "x", 0.05)
    options = ["folders", "--root", str(root), "--out", str(out), "--speaker-regex", r"([FM]\d+)"]
    options += ["--emotion-regex", r"_(?P<emotion>[a-z]+)_", "--gender-regex", r"/([A-Z])\d"]
    result = call(*options)
    assert result.exit_code == 0, result.output
    rows = read_manifest(out).utterances
    assert [(u.speaker, u.emotion, u.gender) for u in rows] == [
        ("F03", "joy", "f"),
        ("F03", "rage", "f"),
        ("M05", "joy", "m"),
        ("M05", "rage", "m"),
    ]
    assert "without a label: all/F03.wav" in result.stdout
    refused = call(*options[:-1], r"/(X)")
    assert "--gender-regex '/(X)' finds no gender in it" in refused.stderr
    for name in ("emotion", "gender"):
        assert (
            f"--{name}-regex is for the corpus 'folders'"
            in call("emodb", "--root", ".", f"--{name}-regex", "(x)").stderr
        )


def test_files_without_speaker_are_listed_and_end_it(tmp_path: Path) -> None:
    root, out = tmp_path / "mine", tmp_path / "mine.csv"
    write_corpus(root)
    write_audio(root / "sad" / "take3.wav", "a", 0.05)
    write_audio(root / "happy" / "_01.wav", "b", 0.05)
    options = ["folders", "--root", str(root), "--out", str(out), "--speaker-regex", "([a-z]*)_"]
    result = call(*options)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0].startswith(
        f"error: {root}: not all files can be used; fix it, or continue with --allow-partial:"
    )
    assert [line.strip() for line in lines[1:]] == [
        "happy/_01.wav: --speaker-regex '([a-z]*)_' finds no speaker in it",
        "sad/take3.wav: --speaker-regex '([a-z]*)_' finds no speaker in it",
    ]
    assert not out.exists()
    assert "not used, as allowed:\n  happy/_01.wav" in call(*options, "--allow-partial").output
    assert len(read_manifest(out).utterances) == 5


def test_a_card_beside_the_manifest_counts(tmp_path: Path) -> None:
    root, out = tmp_path / "mine", tmp_path / "mine.csv"
    write_corpus(root)
    card = [f'{key} = "mine"' for key in ("name", "title", "citation", "licence", "source", "layout")]
    card += ['labels = ["happy"]', 'default_set = "one"', "[classes.one]", 'happy = "joy"']
    card += ["[expected]", "utterances = 3"]
    out.with_suffix(".toml").write_text("\n".join(card))
    options = ["folders", "--root", str(root), "--out", str(out), "--speaker-regex", SPEAKER]
    result = call(*options)
    assert result.exit_code == 1
    assert "utterances in all: 2 found, 3 expected" in result.stderr
    assert "utterance sad/anna_01: label 'sad' is not on the card" in result.stderr
    assert "label set one (default): 2 utterances: joy 2" in call(*options, "--allow-partial").output


def test_every_file_is_counted(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    write_corpus(root)
    write_audio(root / "zoe_1.wav", "a", 0.05)
    write_audio(root / "sad" / "._anna_9.wav", "a", 0.05)
    for name in ("notes.txt", "sad/list.csv", "sad/a.xlsx", "sad/b.doc", "happy/.DS_Store"):
        (root / name).touch()
    assert scan(root, re.compile(SPEAKER)).file_counts().splitlines() == [
        "5 files used, 7 ignored: 2 hidden, 4 not audio, 1 without a label",
        "  not audio: notes.txt, sad/a.xlsx, sad/b.doc and 1 more",
        "  without a label: zoe_1.wav",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["folders"], "--speaker-regex is for the corpus 'folders', which needs it"),
        (["emodb", "--speaker-regex", "(x)"], "--speaker-regex is for the corpus 'folders', which needs it"),
        (["folders", "--speaker-regex", "(x"], "'(x' is not a regular expression"),
        (
            ["folders", "--speaker-regex", "x"],
            "'x' has no group; put the part that is the speaker in parentheses",
        ),
    ],
)
def test_wrong_usage_ends_with_2(options: list[str], message: str, tmp_path: Path) -> None:
    result = call(*options, "--root", str(tmp_path))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_functions_refuse_what_the_command_refuses(tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match="folders needs --speaker-regex, and no other corpus takes it"):
        corpora.scan("folders", tmp_path)
    with pytest.raises(MfhcaError, match="'x': no group; put the part that is the speaker in parentheses"):
        scan(tmp_path, re.compile("x"))
    with pytest.raises(
        MfhcaError, match="no files of folders in it; choose another --root, with the layout CLASS/"
    ):
        corpora.build("folders", tmp_path, tmp_path / "x.csv", speaker=re.compile("(x)"))


def test_a_folder_that_contains_the_corpus_once_more_is_one_problem(tmp_path: Path) -> None:
    """As in a well-known archive of RAVDESS."""
    for speaker in ("anna", "bert"):
        for emotion in ("happy", "sad"):
            write_audio(tmp_path / emotion / f"{speaker}_1.wav", f"{speaker}{emotion}", 0.05)
            write_audio(tmp_path / "again" / emotion / f"{speaker}_1.wav", f"{speaker}{emotion}", 0.05)
    found = scan(tmp_path, re.compile(SPEAKER))
    assert found.problems == (
        "4 files are there twice, in the root and in again, e.g. again/happy/anna_1.wav; the first copies are kept; "
        f"choose --root {tmp_path / 'again'}",
    )
    assert len(found.utterances) == 4
    assert scan(tmp_path / "again", re.compile(SPEAKER)).problems == ()


def test_equal_names_in_folders_of_one_class_are_different_utterances(tmp_path: Path) -> None:
    for speaker in ("anna", "bert"):
        write_audio(tmp_path / speaker / "happy" / "1.wav", speaker, 0.05)
    found = scan(tmp_path, re.compile("^([a-z]+)/"))
    assert ([u.speaker for u in found.utterances], found.problems) == (["anna", "bert"], ())
