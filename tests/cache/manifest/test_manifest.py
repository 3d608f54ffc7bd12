from __future__ import annotations

import csv
import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_factory import CARD, ROWS

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.card import Card, read_card
from mfhca_cache.manifest.manifest import Manifest, read_manifest, resolve_audio, write_manifest
from mfhca_cache.manifest.utterance import MISSING, Utterance, nfc


def manifest_with(folder: Path, text: str, card: str | None = None) -> Manifest:
    path = folder / "mine.csv"
    path.write_text(text, encoding="utf-8")
    if card is not None:
        (folder / "mine.toml").write_text(card, encoding="utf-8")
    return read_manifest(path)


def card_with(folder: Path, old: str, new: str) -> Card:
    assert old in CARD
    (folder / "mine.toml").write_text(CARD.replace(old, new), encoding="utf-8")
    return read_card(folder / "mine.toml")


# --- properties of reading and writing

names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)
names = names.map(nfc).filter(lambda name: name not in MISSING)
utterance_fields = st.fixed_dictionaries(
    {
        "path": names.map(
            lambda name: "x/" + name.replace("\\", "").replace(":", "").replace("/", "") + ".wav"
        ),
        "speaker": names,
        "emotion": names,
        "session": names | st.just(""),
        "samples": st.none() | st.integers(1, 10**9),
        "sample_rate": st.none() | st.integers(1, 10**6),
        "start_s": st.none() | st.floats(0, 100),
        "end_s": st.none() | st.floats(100.5, 1e9),
        "fold": names | st.just(""),
    }
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(names, utterance_fields, min_size=1, max_size=6))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: dict) -> None:
    # a path of its own for each, so that no audio has two speakers
    utterances = tuple(
        Utterance(utterance=name, **{**fields, "path": f"{index}/{fields['path']}"})
        for index, (name, fields) in enumerate(rows.items())
    )
    path = tmp_path_factory.mktemp("manifest") / "any.csv"
    write_manifest(path, utterances)
    assert read_manifest(path).utterances == utterances


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["..", ".", "", "a", "/", "\\", "C:", "~", "b.wav", " ", "...", "\t", "%2e"]),
        min_size=1,
    )
)
def test_a_path_that_is_taken_stays_in_the_root(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "path.csv"
    text = "/".join(parts)
    path.write_text(f'utterance,path,speaker,emotion\nu,"{text}",s,x\n')
    try:
        (utterance,) = read_manifest(path).utterances
    except MfhcaError:
        return
    climbed = os.path.normpath(os.path.join("/root", utterance.path))  # noqa: PTH118, which forgets `..`
    assert climbed == "/root" or climbed.startswith("/root/")
    assert ".." not in utterance.path.split("/")


def test_writing_twice_gives_equal_bytes_and_no_debris(tmp_path: Path) -> None:
    write_manifest(tmp_path / "a.csv", ROWS)
    first = (tmp_path / "a.csv").read_bytes()
    write_manifest(tmp_path / "a.csv", ROWS)
    assert (tmp_path / "a.csv").read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]
    assert first.startswith(b"utterance,path,speaker,session,gender,emotion,samples,sample_rate\nu1,")


def test_column_order_line_endings_spaces_and_extra_columns_do_not_change_the_digest(tmp_path: Path) -> None:
    write_manifest(tmp_path / "a.csv", ROWS)
    with open(tmp_path / "a.csv", newline="") as file:
        table = list(csv.reader(file))
    lines = [", ".join(["extra", *reversed(row)]) for row in table]
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode())
    a, b = read_manifest(tmp_path / "a.csv"), read_manifest(tmp_path / "b.csv")
    assert a.utterances == b.utterances == ROWS
    assert a.digest == b.digest


def test_every_field_changes_the_digest(tmp_path: Path) -> None:
    header = "utterance,path,speaker,emotion,session,gender,samples,sample_rate,start_s,end_s"
    row = ["u", "p.wav", "1", "h", "s", "f", "7", "8000", "0.5", "2"]
    digests = {manifest_with(tmp_path, f"{header}\n{','.join(row)}\n").digest}
    for index, other in enumerate(["v", "q.wav", "2", "i", "t", "m", "8", "16000", "0.25", "3"]):
        changed = [*row[:index], other, *row[index + 1 :]]
        digests.add(manifest_with(tmp_path, f"{header}\n{','.join(changed)}\n").digest)
    assert len(digests) == 11


def test_four_columns_are_enough(tmp_path: Path) -> None:
    manifest = manifest_with(tmp_path, "utterance,path,speaker,emotion\nu,./a//u.wav,1,x\n")
    assert manifest.utterances == (Utterance("u", "a/u.wav", "1", "x"),)
    assert manifest.card is None


def test_whole_numbers_written_as_decimals_are_read(tmp_path: Path) -> None:
    manifest = manifest_with(tmp_path, "utterance,path,speaker,emotion,samples\nu,u.wav,1,x,31129.0\n")
    assert manifest.utterances[0].samples == 31129


# --- bad manifests


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("u9,a.wav,1,h,f,1,1,,", None),
        (",a.wav,1,h,f,1,1,,", "utterance is empty"),
        ("u9,,1,h,f,1,1,,", "path is empty"),
        ("u9,a.wav, ,h,f,1,1,,", "speaker is empty"),
        ("u9,a.wav,1,,f,1,1,,", "emotion is empty"),
        ("u1,a.wav,1,h,f,1,1,,", "utterance 'u1' is on line 2 too"),
        ("u9,a.wav,1,joy,f,1,1,,", r"label 'joy' is not one of the mine card's \(h, e, s, n\)"),
        ("u9,/a.wav,1,h,f,1,1,,", "path '/a.wav' is absolute"),
        (r"u9,C:\a.wav,1,h,f,1,1,,", "is absolute"),
        (r"u9,b\a.wav,1,h,f,1,1,,", "has backslashes"),
        ("u9,b/../../a.wav,1,h,f,1,1,,", r"leaves the corpus root with \.\."),
        ("u9,a.wav,1,h,m,1,1,,", "speaker '1' has gender 'm', on line 2 'f'"),
        ("u9,a.wav,1,h,,1,1,,", "speaker '1' has gender '', on line 2 'f'"),
        ("u9,u1.wav,2,h,m,1,1,,", "u1.wav is speaker '2' here and '1' on line 2"),
        ("u9,a.wav,1,h,f,0,1,,", "samples '0' is not a positive whole number"),
        ("u9,a.wav,1,h,f,1.5,1,,", "samples '1.5' is not"),
        ("u9,a.wav,1,h,f,1_0,1,,", "samples '1_0' is not"),
        ("u9,a.wav,1,h,f,1,-1,,", "sample_rate '-1' is not"),
        ("u9,a.wav,1,h,f,1,1,nan,", "start_s 'nan' is not a number of seconds"),
        ("u9,a.wav,1,h,f,1,1,-1,", "start_s '-1' is not"),
        ("u9,a.wav,1,h,f,1,1,,inf", "end_s 'inf' is not"),
        ("u9,a.wav,1,h,f,1,1,2,2", r"end_s 2\.0 is not after start_s 2\.0"),
        ("u9,a.wav,1,h,f,1,1,,0", r"end_s 0\.0 is not after start_s 0\.0"),
        ("u9,a.wav,1,h,f,1,1,", "8 fields, 9 columns"),
        ("u9,a.wav,1,h,f,1,1,,,", "10 fields, 9 columns"),
        ('"u\n9",a.wav,1,h,f,1,1,,', r"utterance 'u\\n9' has a line break"),
    ],
)
def test_a_bad_row_is_named_by_line_and_a_good_one_passes(
    tmp_path: Path, row: str, message: str | None
) -> None:
    header = "utterance,path,speaker,emotion,gender,samples,sample_rate,start_s,end_s"
    text = f"{header}\nu1,u1.wav,1,h,f,1,1,,\n{row}\n"
    if message is None:
        assert len(manifest_with(tmp_path, text, CARD).utterances) == 2
    else:
        with pytest.raises(MfhcaError, match=f"1 bad entry;(.|\n)*line 3: .*{message}"):
            manifest_with(tmp_path, text, CARD)


def test_line_numbers_count_blank_and_quoted_lines(tmp_path: Path) -> None:
    text = 'utterance,path,speaker,emotion,note\n\nu1,u1.wav,1,h,"two\nlines"\n,,,,\nu2,,1,h,\n'
    with pytest.raises(MfhcaError, match="line 6: path is empty"):
        manifest_with(tmp_path, text)


def test_parts_of_one_file_may_have_different_speakers(tmp_path: Path) -> None:
    header = "utterance,path,speaker,emotion,start_s,end_s"
    assert (
        manifest_with(tmp_path, f"{header}\nu1,a.wav,1,h,0,1\nu2,a.wav,2,h,1,2\n").utterances[1].start_s
        == 1.0
    )


def test_all_bad_rows_are_counted_and_twenty_shown(tmp_path: Path) -> None:
    text = "utterance,path,speaker,emotion\n" + "".join(f"u{i},,1,h\n" for i in range(30))
    with pytest.raises(MfhcaError, match="30 bad entries") as caught:
        manifest_with(tmp_path, text)
    lines = str(caught.value).splitlines()
    assert lines[20] == "  line 21: path is empty"
    assert lines[21:] == ["  ... and 10 more (30 in total)"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column utterance, path, speaker, emotion; the first line has: nothing"),
        (b"utterance;path;speaker;emotion\n", r"no column .*utterance;path.*commas"),
        (
            b"utterance,path,speaker\nu,p,1\n",
            "no column emotion; the first line has: utterance, path, speaker",
        ),
        (b"utterance,path,speaker,emotion,path\n", "column path appears twice"),
        (b"utterance,path,speaker,emotion\n\n", "no utterances"),
        (b'utterance,path,speaker,emotion\nu,"a"b,1,h\n', "line 2 is not CSV"),
        (b"utterance,path,speaker,emotion\nu,\xfc.wav,1,h\n", "not text in UTF-8"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(MfhcaError, match=f"x.csv: .*{message}"):
        read_manifest(tmp_path / "x.csv")


def test_a_missing_manifest_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(
        MfhcaError,
        match=r"no such manifest; `mfhca-cache manifest CORPUS --root DIR --out .*x\.csv` makes one",
    ):
        read_manifest(tmp_path / "x.csv")
    with pytest.raises(MfhcaError, match="a folder; pass the CSV file of the manifest"):
        read_manifest(tmp_path)


# --- label sets and sessions


def test_label_sets_choose_merge_and_order(tmp_path: Path) -> None:
    write_manifest(tmp_path / "mine.csv", ROWS)
    (tmp_path / "mine.toml").write_text(CARD)
    manifest = read_manifest(tmp_path / "mine.csv")
    two = manifest.label_set()
    assert (two.name, two.classes) == ("two", ("sad", "glad"))
    assert [utterance.utterance for utterance in manifest.select(two)] == ["u1", "u2", "u3"]
    assert manifest.select("one") == (ROWS[3],)
    with pytest.raises(MfhcaError, match="no label set 'six'; there are: two, one"):
        manifest.label_set("six")


def test_without_a_card_every_label_is_a_class_in_alphabetical_order(tmp_path: Path) -> None:
    write_manifest(tmp_path / "mine.csv", ROWS)
    manifest = read_manifest(tmp_path / "mine.csv")
    assert manifest.label_set().classes == ("e", "h", "n", "s")
    assert manifest.select() == ROWS
    with pytest.raises(MfhcaError, match="no label set 'four'; there are: all"):
        manifest.label_set("four")


@pytest.mark.parametrize(("sessions", "has"), [("12", True), ("11", False), ("", False)])
def test_sessions_count_only_if_all_are_named_and_two_differ(
    tmp_path: Path, sessions: str, has: bool
) -> None:
    rows = [Utterance(f"u{i}", f"{i}.wav", str(i), "x", s) for i, s in enumerate(sessions.ljust(2))]
    write_manifest(tmp_path / "x.csv", rows)
    assert read_manifest(tmp_path / "x.csv").has_sessions is has


# --- audio


def test_audio_is_found_inside_the_root_and_not_outside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "out.wav"
    (root / "wav").mkdir(parents=True)
    (root / "wav" / "in.wav").touch()
    outside.touch()
    (root / "link.wav").symlink_to(outside)
    (root / "inner.wav").symlink_to(root / "wav" / "in.wav")
    (root / "circle.wav").symlink_to(root / "circle.wav")
    (tmp_path / "other").symlink_to(root)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.wav").touch()
    (root / "folder").symlink_to(tmp_path / "elsewhere")

    def resolve(path: str, where: Path = root, allow_outside: bool = False) -> Path:
        return resolve_audio(where, Utterance("u1", path, "1", "x"), allow_outside)

    assert resolve("wav/in.wav") == (root / "wav/in.wav").resolve()
    assert resolve("inner.wav") == (root / "wav/in.wav").resolve()
    assert resolve("wav/in.wav", tmp_path / "other") == (root / "wav/in.wav").resolve()
    assert resolve("link.wav", allow_outside=True) == outside.resolve()
    with pytest.raises(MfhcaError, match=f"utterance u1: link.wav is a link out of {re.escape(str(root))}"):
        resolve("link.wav")
    with pytest.raises(MfhcaError, match=r"utterance u1: folder/a\.wav is a link out of"):
        resolve("folder/a.wav")
    assert resolve("folder/a.wav", allow_outside=True) == (tmp_path / "elsewhere/a.wav").resolve()
    for path in ("gone.wav", "circle.wav", "wav"):
        with pytest.raises(MfhcaError, match=f"utterance u1: no file {path} in .*check --root"):
            resolve(path)


def test_importing_the_manifest_loads_nothing_heavy() -> None:
    code = "import sys, mfhca_cache.manifest.manifest, mfhca_cache.corpora.scan; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout.split()
    assert not {"numpy", "torch", "transformers", "soundfile", "h5py", "librosa"} & set(loaded)


# --- the official split


def test_a_manifest_without_a_split_keeps_its_bytes_and_its_digest(tmp_path: Path) -> None:
    """Runs name the digest, so the optional column must not change it."""
    plain = Utterance("u", "u.wav", "s", "x")
    write_manifest(tmp_path / "a.csv", [plain])
    assert (tmp_path / "a.csv").read_text() == (
        "utterance,path,speaker,session,gender,emotion,samples,sample_rate\nu,u.wav,s,,,x,,\n"
    )
    fields = (
        '"emotion":"x","end_s":null,"gender":"","path":"u.wav","sample_rate":null,"samples":null,"session":"",'
        '"speaker":"s","start_s":null,"utterance":"u"'
    )
    assert read_manifest(tmp_path / "a.csv").digest == hashlib.sha256(f"[{{{fields}}}]".encode()).hexdigest()
    write_manifest(tmp_path / "b.csv", [replace(plain, fold="1")])
    assert (tmp_path / "b.csv").read_text().splitlines()[0].endswith(",sample_rate,fold")
    assert read_manifest(tmp_path / "b.csv").digest != read_manifest(tmp_path / "a.csv").digest


@pytest.mark.parametrize("name", ["fold", "split"])
def test_the_official_split_may_be_called_fold_or_split(tmp_path: Path, name: str) -> None:
    text = f"utterance,path,speaker,emotion,{name}\na,a.wav,s,x,train\nb,b.wav,t,x,\n"
    assert [u.fold for u in manifest_with(tmp_path, text).utterances] == ["train", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fold,split\na,a.wav,s,x,1,train\n", "columns fold and split both name the official split"),
        ("split\na,a.wav,s,x,te\u200bst\n", "split 'te\\\\u200bst' has the invisible character"),
    ],
)
def test_a_split_that_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MfhcaError, match=message):
        manifest_with(tmp_path, "utterance,path,speaker,emotion," + text)


def test_names_that_a_spreadsheet_would_run_are_quoted_and_read_back(tmp_path: Path) -> None:
    rows = (Utterance("=1+1", "-a/@b.wav", "+s", "joy"), Utterance("'=2", "'tis.wav", "s", "joy"))
    write_manifest(tmp_path / "a.csv", rows)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["'=1+1", "'-a/@b.wav", "'+s"],
        ["''=2", "'tis.wav", "s"],
    ]
    assert read_manifest(tmp_path / "a.csv").utterances == rows
