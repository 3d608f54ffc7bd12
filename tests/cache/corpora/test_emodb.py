"""mfhca_cache.corpora.emodb, with the real recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
from iemocap_factory import write_wav

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora import scan
from mfhca_cache.manifest.manifest import read_manifest


def test_emodb_is_complete(shared: Path, tmp_path: Path) -> None:
    summary = scan.build("emodb", shared / "data" / "emodb", tmp_path / "emodb.csv")
    manifest = read_manifest(tmp_path / "emodb.csv")
    assert manifest.utterances == summary.scan.utterances
    assert len(manifest.utterances) == 535
    assert len(manifest.select("seven")) == 535
    assert len(manifest.select("four")) == 339
    assert manifest.label_set().classes == (
        "anger",
        "boredom",
        "disgust",
        "fear",
        "happiness",
        "neutral",
        "sadness",
    )
    assert manifest.label_set("four").classes == ("anger", "happiness", "neutral", "sadness")
    assert not manifest.has_sessions
    genders = {utterance.speaker: utterance.gender for utterance in manifest.utterances}
    assert "".join(genders[speaker] for speaker in sorted(genders)) == "mffmmmffmf"
    first = manifest.utterances[0]
    assert (first.utterance, first.path, first.samples, first.sample_rate) == (
        "03a01Fa",
        "wav/03a01Fa.wav",
        30372,
        16000,
    )
    assert sum(utterance.samples or 0 for utterance in manifest.utterances) / 16000 / 3600 == pytest.approx(
        0.41, abs=0.005
    )
    assert "label set four: 339 utterances: anger 127, happiness 71, neutral 79, sadness 62" in str(summary)


@pytest.mark.parametrize("folder", ["wav", "."])
def test_emodb_may_lie_in_wav_or_in_the_root(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in ("16b10Td", "03a01Fa"):
        write_wav(tmp_path / folder / f"{name}.wav", 160)
    found = scan.scan("emodb", tmp_path)
    assert [utterance.utterance for utterance in found.utterances] == ["03a01Fa", "16b10Td"]
    assert found.utterances[0].path == (Path(folder) / "03a01Fa.wav").as_posix()
    assert (found.ignored, found.problems) == ({}, ())


def test_every_file_of_emodb_is_counted(tmp_path: Path) -> None:
    for name in ("03a01Fa", "03a01Xa", "3a01Fa", "._03a01Fa", "speech"):
        write_wav(tmp_path / f"{name}.wav", 160)
    write_wav(tmp_path / "03a01Wa.wav", 0)
    (tmp_path / "03a01Na.wav").write_text("no audio")
    (tmp_path / "erkennung.txt").touch()
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "lablaut").mkdir()
    (tmp_path / "lablaut" / "03a01Fa.lablaut").touch()
    found = scan.scan("emodb", tmp_path)
    assert [utterance.utterance for utterance in found.utterances] == ["03a01Fa"]
    assert found.ignored == {
        "named almost like 03a01Fa": ["03a01Xa.wav", "3a01Fa.wav"],
        "hidden": [".DS_Store", "._03a01Fa.wav"],
        "without a label": ["speech.wav"],
        "not .wav": ["erkennung.txt", "lablaut/03a01Fa.lablaut"],
    }
    assert found.file_counts().splitlines()[0] == (
        "1 file used, 7 ignored: 2 hidden, 2 named almost like 03a01Fa, 2 not .wav, 1 without a label"
    )
    assert len(found.problems) == 2
    assert found.problems[0].startswith("utterance 03a01Na: 03a01Na.wav is not readable audio (")
    assert found.problems[1] == "utterance 03a01Wa: 03a01Wa.wav has no samples"


def test_missing_files_are_an_error_that_lists_every_difference_of_the_default_label_set(
    shared: Path, tmp_path: Path
) -> None:
    root = tmp_path / "emodb"
    root.mkdir()
    for file in (shared / "data" / "emodb" / "wav").iterdir():
        if file.stem not in ("03a01Fa", "08a01Lc"):
            (root / file.name).symlink_to(file)
    out = tmp_path / "emodb.csv"
    with pytest.raises(
        MfhcaError, match=r"differs from the card of emodb; complete it, or .*--allow-partial"
    ) as error:
        scan.build("emodb", root, out)
    assert [line.strip() for line in str(error.value).splitlines()[1:]] == [
        "utterances in all: 533 found, 535 expected",
        "label set seven, utterances: 533 found, 535 expected",
        "label set seven, class boredom: 80 found, 81 expected",
        "label set seven, class happiness: 70 found, 71 expected",
        "label set seven, speaker 03: 48 found, 49 expected",
        "label set seven, speaker 08: 57 found, 58 expected",
    ]
    assert not out.exists()
    with (
        log.command(log.VERBOSE),
        pytest.raises(MfhcaError, match="label set four, speaker 03: 38 found, 39 exp"),
    ):
        scan.build("emodb", root, out)
    summary = scan.build("emodb", root, out, allow_partial=True)
    assert len(read_manifest(out).utterances) == 533
    assert "different from the card, as allowed" in str(summary)
