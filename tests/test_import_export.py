"""The page on import and export, followed from its table to its last line."""

from __future__ import annotations

from pathlib import Path

import pytest
from audio_factory import write_audio
from pages import block, python, shell

from mfhca_cache.manifest.manifest import read_manifest


def test_the_page_from_a_table_to_other_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for library in ("kaldiio", "pyarrow", "datasets"):
        pytest.importorskip(library)
    for speaker in ("anna", "ben", "carla", "dora"):
        for number in (1, 2):
            write_audio(tmp_path / f"data/mine/{speaker}/{number}.wav", f"{speaker}{number}", 0.5)
    (tmp_path / "list.csv").write_text(block("import-export.md", "file", "list.csv"))
    shell(tmp_path, block("import-export.md", "shell", "table"))
    first = read_manifest(tmp_path / "mine.csv").utterances[0]
    assert (first.utterance, first.speaker, first.emotion) == ("anna/1", "Anna", "happy")
    python(tmp_path, block("import-export.md", "test", "encode"), capsys)
    said = shell(tmp_path, block("import-export.md", "shell", "import"))
    assert "8 utterances, 8 segments of 150 frames of 40 values" in said
    assert (tmp_path / "runs/emotion2vec/report.html").is_file()
    printed = python(tmp_path, block("import-export.md", "test", "python"), capsys)
    assert printed == "(150, 40) 8 (80,)\n"
    shell(tmp_path, block("import-export.md", "shell", "export"))
    printed = python(tmp_path, block("import-export.md", "test", "read"), capsys)
    assert printed.splitlines() == ["(50, 200) True True 400", "anna/1 happy Anna"]
