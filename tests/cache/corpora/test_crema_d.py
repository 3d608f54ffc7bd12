"""mfhca_cache.corpora.crema_d: the table of actors."""

from __future__ import annotations

from pathlib import Path

import pytest
from tree_factory import recording

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora import scan


def test_genders_come_from_the_table_beside_or_above(tmp_path: Path) -> None:
    root = tmp_path / "CREMA-D"
    for actor in ("1001", "1002", "1003"):
        recording(root / "AudioWAV" / f"{actor}_DFA_ANG_XX.wav", "crema-d")
    (root / "AudioMP3").mkdir()
    (root / "AudioMP3" / "1001_DFA_ANG_XX.mp3").touch()
    genders = [u.gender for u in scan.scan("crema-d", root).utterances]
    assert genders == ["", "", ""]
    (root / "VideoDemographics.csv").write_text(
        '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'
        '1002,21,"Female","Caucasian","Not Hispanic"\n'
    )
    for folder in (root, root / "AudioWAV"):
        found = scan.scan("crema-d", folder)
        assert [u.gender for u in found.utterances] == ["m", "f", ""]
    found = scan.scan("crema-d", root)
    assert found.ignored == {"not .wav": ["VideoDemographics.csv", "AudioMP3/1001_DFA_ANG_XX.mp3"]}


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "ActorID,Sex\n1001,Man\n", "\xff\xfe"])
def test_a_table_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    recording(tmp_path / "1001_DFA_ANG_XX.wav", "crema-d")
    (tmp_path / "VideoDemographics.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(MfhcaError, match=r"VideoDemographics.csv: not CREMA-D's table of actors"):
        scan.scan("crema-d", tmp_path)
