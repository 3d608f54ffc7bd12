"""Corpora whose labels are in their file names, each as a whole: counts, droppings, near misses, odd audio."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from audio_factory import write_audio
from click.testing import CliRunner
from places import REPOSITORY
from tree_factory import CORPORA, recording, replace, write_tree

from mfhca_cache.cli import main
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora import scan
from mfhca_cache.features.audio import read_audio
from mfhca_cache.manifest.card import find_card, read_card
from mfhca_cache.manifest.manifest import read_manifest

SEVEN = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
PUBLISHED = {  # utterances, speakers, classes of the default set
    "ravdess": (1440, 24, ("anger", "calm", *SEVEN[1:])),
    "savee": (480, 4, SEVEN),
    "tess": (2800, 2, SEVEN),
    "crema-d": (7442, 91, SEVEN[:-1]),
    "emovo": (588, 6, SEVEN),
    "urdu": (400, 29, ("anger", "happiness", "neutral", "sadness")),
}
# (corpus, a file that is there, almost such a file, the reason for ignoring that)
NEAR_MISSES = [
    (
        "ravdess",
        "Actor_01/03-01-06-01-02-01-01.wav",
        "Actor_01/03-01-06-01-02-01.wav",
        "named almost",
    ),  # a field less
    (
        "ravdess",
        "Actor_01/03-01-06-01-02-01-01.wav",
        "Actor_01/03-01-09-01-02-01-01.wav",
        "named almost",
    ),  # emotion 9
    (
        "ravdess",
        "Actor_01/03-01-06-01-02-01-01.wav",
        "Actor_01/03-01-01-02-02-01-01.wav",
        "named almost",
    ),  # strong neutral
    (
        "ravdess",
        "Actor_01/03-01-06-01-02-01-01.wav",
        "Actor_25/03-01-06-01-02-01-25.wav",
        "named almost",
    ),  # actor 25
    ("ravdess", "Actor_01/03-01-06-01-02-01-01.wav", "Actor_01/03-02-06-01-02-01-01.wav", "sung"),
    ("ravdess", "Actor_01/03-01-06-01-02-01-01.wav", "Actor_01/01-01-06-01-02-01-01.wav", "with video"),
    ("savee", "AudioData/DC/a01.wav", "AudioData/DC/a16.wav", "named almost"),
    ("savee", "AudioData/DC/n30.wav", "AudioData/DC/n31.wav", "named almost"),
    ("savee", "AudioData/DC/a01.wav", "AudioData/DC/b01.wav", "named almost"),
    ("savee", "AudioData/DC/a01.wav", "AudioData/XX/a01.wav", "without a speaker"),
    ("tess", "OAF_angry/OAF_back_angry.wav", "OAF_angry/OAF_back_bored.wav", "named almost"),
    ("tess", "OAF_angry/OAF_back_angry.wav", "OAF_angry/OAF_angry.wav", "named almost"),
    ("tess", "OAF_angry/OAF_back_angry.wav", "OAF_angry/XAF_back_angry.wav", "without a label"),
    ("crema-d", "AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1001_DFA_ANG.wav", "named almost"),
    ("crema-d", "AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1092_DFA_ANG_XX.wav", "named almost"),
    ("crema-d", "AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1001_DFA_SUR_XX.wav", "named almost"),
    ("emovo", "EMOVO/f1/dis-f1-b1.wav", "EMOVO/f1/dis-f4-b1.wav", "named almost"),
    ("emovo", "EMOVO/f1/dis-f1-b1.wav", "EMOVO/f1/dis-f1-b4.wav", "named almost"),
    ("urdu", "Angry/SM1_F1_A01.wav", "Angry/SM1_F1_X01.wav", "named almost"),
    ("urdu", "Angry/SM1_F1_A01.wav", "Angry/SM1_A01.wav", "named almost"),
]
# (corpus, a file put where it does not belong, what is said of it)
CONTRADICTIONS = [
    ("ravdess", "Actor_02/03-01-06-01-02-01-01.wav", "speaker 01 by its name, speaker 02 by its folder"),
    ("savee", "AudioData/JE/DC_a01.wav", "speaker DC by its name, speaker JE by its folder"),
    ("tess", "YAF_fear/OAF_back_fear.wav", "speaker OAF by its name, speaker YAF by its folder"),
    ("tess", "OAF_Sad/OAF_back_fear.wav", "emotion fear by its name, emotion sadness by its folder"),
    ("emovo", "EMOVO/m2/dis-m1-b1.wav", "speaker m1 by its name, speaker m2 by its folder"),
    ("urdu", "Happy/SM1_F1_A01.wav", "emotion anger by its name, emotion happiness by its folder"),
    # Not only the file's own folder counts, and not only folders that the corpus is released with.
    ("ravdess", "Actor_02/new/03-01-06-01-02-01-01.wav", "speaker 01 by its name, speaker 02 by its folder"),
    ("ravdess", "Happy/Actor_01/03-01-04-01-02-01-01.wav", "emotion sadness by its name, emotion happiness"),
    ("crema-d", "1002/1001_DFA_ANG_XX.wav", "speaker 1001 by its name, speaker 1002 by its folder"),
    ("crema-d", "sad/1001_DFA_ANG_XX.wav", "emotion anger by its name, emotion sadness by its folder"),
    ("emodb", "wav/08/03a01Fa.wav", "speaker 03 by its name, speaker 08 by its folder"),
    ("emodb", "anger/03a01Fa.wav", "emotion happiness by its name, emotion anger by its folder"),
    ("emovo", "m1/Joy/dis-m1-b1.wav", "emotion disgust by its name, emotion happiness by its folder"),
    ("savee", "DC/Disgust/a01.wav", "emotion anger by its name, emotion disgust by its folder"),
    ("urdu", "SM2/SM1_F1_A01.wav", "speaker SM1 by its name, speaker SM2 by its folder"),
]


def test_every_corpus_here_is_known_by_its_module_and_its_card_alone() -> None:
    assert {*CORPORA} < {*scan.NAMES}
    assert tuple(sorted(scan.NAMES)) == scan.NAMES
    for name in scan.NAMES:
        card = find_card(name)
        assert card is not None
        assert read_card(card).name == name


@pytest.mark.parametrize("corpus", CORPORA)
def test_the_whole_corpus_has_the_counts_of_its_card_in_either_layout(corpus: str, tmp_path: Path) -> None:
    utterances, speakers, classes = PUBLISHED[corpus]
    ids = []
    for layout in ("nested", "flat"):
        root, out = tmp_path / layout / "corpus", tmp_path / layout / "out" / f"{corpus}.csv"
        released = write_tree(root, corpus, layout)
        summary = scan.build(corpus, root, out)
        manifest = read_manifest(out)
        assert (summary.scan.problems, summary.scan.ignored, summary.differences) == ((), {}, ())
        assert f"{utterances:,} files used, none ignored" in str(summary)
        assert len(manifest.utterances) == len({u.utterance for u in manifest.utterances}) == utterances
        assert len({u.speaker for u in manifest.utterances}) == speakers
        assert {u.session for u in manifest.utterances} == {""}
        assert manifest.label_set().classes == classes
        assert manifest.label_set("four").classes == ("anger", "happiness", "neutral", "sadness")
        # Each file is what the loops that made it say, whatever the layout.
        found = {u.path: (u.speaker, u.gender, u.emotion) for u in manifest.utterances}
        assert found == {getattr(f, layout): (f.speaker, f.gender, f.label) for f in released}
        rate = CORPORA[corpus].rate
        assert {(u.samples, u.sample_rate) for u in manifest.utterances} == {(round(0.02 * rate), rate)}
        ids.append([(u.utterance, u.speaker, u.emotion) for u in manifest.utterances])
    assert ids[0] == ids[1] == sorted(ids[0])


@pytest.mark.parametrize("corpus", CORPORA)
def test_cards_count_what_the_names_say(corpus: str) -> None:
    """The numbers on the card, recomputed from the loops over the released names."""
    path = find_card(corpus)
    assert path is not None
    card = tomllib.loads(path.read_text())
    released = list(CORPORA[corpus].files())
    assert card["expected"]["utterances"] == len(released) == PUBLISHED[corpus][0]
    assert {file.label for file in released} == {*card["labels"]}
    for name, mapping in card["classes"].items():
        expected = card["expected"][name]
        chosen = [file for file in released if file.label in mapping]
        assert expected["utterances"] == len(chosen), name
        assert expected["classes"] == Counter(mapping[file.label] for file in chosen), name
        if "speakers" in expected:
            assert expected["speakers"] == Counter(file.speaker for file in chosen), name
    assert "speakers" in card["expected"][card["default_set"]]


@pytest.mark.parametrize(("corpus", "right", "wrong", "reason"), NEAR_MISSES)
def test_near_misses_are_ignored_by_name(
    corpus: str, right: str, wrong: str, reason: str, tmp_path: Path
) -> None:
    for name in (right, wrong):
        recording(tmp_path / name, corpus)
    found = scan.scan(corpus, tmp_path)
    assert [u.path for u in found.utterances] == [right]
    ((why, files),) = found.ignored.items()
    assert why.startswith(reason)
    assert files == [wrong]
    assert wrong in found.file_counts()


@pytest.mark.parametrize(("corpus", "path", "text"), CONTRADICTIONS)
def test_a_file_in_the_wrong_folder_is_a_problem(corpus: str, path: str, text: str, tmp_path: Path) -> None:
    write_audio(tmp_path / path, "x", 0.05)
    found = scan.scan(corpus, tmp_path)
    assert found.utterances == ()
    assert len(found.problems) == 1
    assert found.problems[0].startswith(path)
    assert text in found.problems[0]


def test_droppings_are_counted_and_do_no_harm(tmp_path: Path) -> None:
    root = tmp_path / "emovo"
    write_tree(root, "emovo")
    for name in (
        ".DS_Store",
        "EMOVO/f1/._dis-f1-b1.wav",
        "EMOVO/.git/HEAD",
        "EMOVO/documenti.pdf",
        "EMOVO/f1/Thumbs.db",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\x00\x05\x16\x07")
    for name in ("voice.wav", "EMOVO/m3/prova.wav"):
        recording(root / name, "emovo")
    summary = scan.build("emovo", root, tmp_path / "emovo.csv")
    assert str(summary).splitlines()[-3:] == [
        "588 files used, 7 ignored: 3 hidden, 2 not .wav, 2 without a label",
        "  not .wav: EMOVO/documenti.pdf, EMOVO/f1/Thumbs.db",
        "  without a label: EMOVO/m3/prova.wav, voice.wav",
    ]


@pytest.mark.parametrize("corpus", ["savee", "emovo", "urdu"])
def test_a_wrong_total_is_an_error_with_every_difference_and_the_file_counts(
    corpus: str, tmp_path: Path
) -> None:
    root, out = tmp_path / "corpus", tmp_path / f"{corpus}.csv"
    first, *_ = write_tree(root, corpus)
    (root / first.nested).rename(root / "lost.wav")
    total, _, _ = PUBLISHED[corpus]
    with pytest.raises(
        MfhcaError, match=f"differs from the card of {corpus}; complete it, or continue with --allow-partial"
    ) as error:
        scan.build(corpus, root, out)
    lines = [line.strip() for line in str(error.value).splitlines()]
    assert f"utterances in all: {total - 1} found, {total} expected" in lines
    assert any(f"speaker {first.speaker}:" in line for line in lines)
    assert lines[-2:] == [
        f"{total - 1} files used, 1 ignored: 1 without a label",
        "without a label: lost.wav",
    ]
    assert not out.exists()
    assert len(scan.build(corpus, root, out, allow_partial=True).scan.utterances) == total - 1
    assert len(read_manifest(out).utterances) == total - 1


def test_a_download_that_holds_everything_twice_is_refused_and_named(tmp_path: Path) -> None:
    root, out = tmp_path / "tess", tmp_path / "tess.csv"
    write_tree(root, "tess")
    write_tree(root / "TESS Toronto emotional speech set data", "tess")
    with pytest.raises(MfhcaError, match=r"differs from the card of tess") as error:
        scan.build("tess", root, out)
    inner = "TESS Toronto emotional speech set data"
    assert str(error.value).splitlines()[1] == (
        f"  2,800 files are there twice, in the root and in {inner}, e.g. OAF_Fear/OAF_bab_fear.wav; "
        f"the first copies are kept; choose --root {root / inner}"
    )
    assert len(scan.build("tess", root / inner, out).scan.utterances) == 2800


def test_the_file_that_lost_a_letter_is_the_speakers_and_no_third_one(tmp_path: Path) -> None:
    for name in ("OA_bite_neutral", "OAF_bite_neutral", "YAF_bite_pleasant_surprise", "yaf_bite_SAD"):
        recording(tmp_path / f"{name}.wav", "tess")
    replace(tmp_path / "OAF_bite_neutral.wav", "tess", subtype="PCM_24")
    found = scan.scan("tess", tmp_path)
    assert [(u.utterance, u.speaker, u.emotion) for u in found.utterances] == [
        ("YAF_bite_ps", "YAF", "ps"),
        ("YAF_bite_sad", "YAF", "sad"),
    ]
    assert len(found.problems) == 1
    assert "OAF_bite_neutral twice: OAF_bite_neutral.wav and OA_bite_neutral.wav differ" in found.problems[0]


def test_the_file_that_lost_an_x_has_the_name_it_should_have(tmp_path: Path) -> None:
    recording(tmp_path / "1040_ITH_SAD_X.wav", "crema-d")
    (utterance,) = scan.scan("crema-d", tmp_path).utterances
    assert (utterance.utterance, utterance.path) == ("1040_ITH_SAD_XX", "1040_ITH_SAD_X.wav")


# --- audio as it is released, through the reading that features are made of


def test_an_aiff_file_named_wav_decodes_at_its_own_rate(tmp_path: Path) -> None:
    name = tmp_path / "YAF_angry" / "YAF_germ_angry.wav"
    recording(name, "tess", format="AIFF", subtype="PCM_16")
    assert name.read_bytes()[:4] == b"FORM"
    (utterance,) = scan.scan("tess", tmp_path).utterances
    audio = read_audio(tmp_path / utterance.path, 16_000)
    assert (utterance.samples, utterance.sample_rate) == (488, 24_414)
    assert (audio.native_samples, audio.native_rate) == (488, 24_414)
    plain = read_audio(recording(tmp_path / "plain.wav", "tess"), 16_000)
    np.testing.assert_array_equal(audio.samples, plain.samples)
    assert len(audio.samples) == round(488 * 16_000 / 24_414)


def test_mono_and_stereo_of_48_khz_are_mixed_and_both_decode(tmp_path: Path) -> None:
    write_tree(tmp_path / "ravdess", "ravdess")
    stereo = tmp_path / "ravdess" / "Actor_01" / "03-01-02-01-01-02-01.wav"
    stereo.unlink()
    recording(stereo, "emovo")
    summary = scan.build("ravdess", tmp_path / "ravdess", tmp_path / "ravdess.csv")
    assert {u.sample_rate for u in summary.scan.utterances} == {48_000}
    one, two = (read_audio(path, 16_000) for path in (stereo.with_name("03-01-02-01-01-01-01.wav"), stereo))
    assert one.samples.ndim == two.samples.ndim == 1
    assert len(one.samples) == len(two.samples) == 320
    assert one.native_rate == two.native_rate == 48_000
    assert np.abs(one.samples).max() > 0.01
    assert np.abs(two.samples).max() > 0.01


# --- the command


def test_help_describes_every_corpus() -> None:
    result = CliRunner().invoke(main, ["manifest", "--help"])
    assert result.exit_code == 0
    for name in (*scan.NAMES, scan.FOLDERS):
        assert f"\n  {name} " in result.output
    assert "1001_DFA_ANG_XX.wav" in result.output


def test_a_new_corpus_is_one_module_and_one_card(tmp_path: Path) -> None:
    """In a copy of the package, two files are put in and the command knows the corpus."""
    shutil.copytree(
        REPOSITORY / "mfhca_cache", tmp_path / "mfhca_cache", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(REPOSITORY / "manifests", tmp_path / "manifests", ignore=shutil.ignore_patterns("*.csv"))
    module = (REPOSITORY / "mfhca_cache" / "corpora" / "emovo.py").read_text()
    card = (REPOSITORY / "manifests" / "emovo.toml").read_text()
    (tmp_path / "mfhca_cache" / "corpora" / "my_emovo.py").write_text(module)
    (tmp_path / "manifests" / "my-emovo.toml").write_text(card.replace('name = "emovo"', 'name = "my-emovo"'))
    write_tree(tmp_path / "audio", "emovo")
    command = ["manifest", "my-emovo", "--root", str(tmp_path / "audio"), "--out", str(tmp_path / "x.csv")]
    done = subprocess.run(
        [sys.executable, "-m", "mfhca_cache", *command],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "588 utterances of 6 speakers" in done.stdout


# --- one utterance in several files


SPEAKER = r"([a-z]+)_\d+"


def test_two_files_of_one_name_are_a_problem_and_neither_is_taken(tmp_path: Path) -> None:
    write_audio(tmp_path / "sad" / "anna_1.flac", "one", 0.05, format="WAV", subtype="PCM_U8")
    write_audio(tmp_path / "sad" / "anna_1.wav", "two", 0.05, subtype="PCM_U8")
    for file in (tmp_path / "sad").iterdir():
        os.utime(file, (0, 0))  # equal in size and time, and still not the same
    found = scan.scan("folders", tmp_path, re.compile(SPEAKER))
    assert found.utterances == ()
    assert found.problems == (
        "utterance sad/anna_1 twice: sad/anna_1.flac and sad/anna_1.wav differ, neither is kept; "
        "remove one, or choose a --root with one of them",
    )


def test_of_equal_files_the_first_is_kept_and_both_are_named(tmp_path: Path) -> None:
    for folder in (".", "copy"):
        write_audio(tmp_path / folder / "03a01Fa.wav", "same", 0.05)
    write_audio(tmp_path / "copy" / "16b10Td.wav", "one", 0.05)
    write_audio(tmp_path / "16b10Td.WAV", "two", 0.05)
    found = scan.scan("emodb", tmp_path)
    assert [u.path for u in found.utterances] == ["03a01Fa.wav"]
    assert [problem.split(";")[0] for problem in found.problems] == [
        "utterance 03a01Fa twice: 03a01Fa.wav and copy/03a01Fa.wav are identical, the first is kept",
        "utterance 16b10Td twice: 16b10Td.WAV and copy/16b10Td.wav differ, neither is kept",
    ]


@pytest.mark.parametrize("name", ["a\\b", " a", "a\tb", "a\udcff"])
def test_names_that_a_manifest_cannot_hold_are_problems(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    try:
        path.mkdir()
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system has no such names")
    write_audio(tmp_path / "x.wav", "x", 0.05)
    os.link(tmp_path / "x.wav", path / "anna_1.wav")
    found = scan.scan("folders", tmp_path, re.compile(SPEAKER))
    assert found.utterances == ()
    assert len(found.problems) == 1
    assert "a manifest cannot hold" in found.problems[0]
