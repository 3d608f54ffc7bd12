"""Calling `mfhca-train cv` on the small corpus in tests."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result
from corpus_factory import SMALL

from mfhca_train.cli.main import main


def cv_command(folder: Path, *more: str) -> Result:
    """Runs the command for the corpus in a folder."""
    settings = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    arguments = [
        "cv",
        str(folder / "corpus.csv"),
        "--cache",
        str(folder / "cache"),
        "--out",
        str(folder / "run"),
    ]
    return CliRunner().invoke(
        main, [*arguments, "--preset", "paper", *settings, "--jobs", "1", "--no-analysis", *more]
    )


def fails(result: Result, *words: str) -> None:
    """Exit code 1, an error with all these words, at most the preset's line before it, no traceback."""
    assert result.exit_code == 1, result.output
    first, _, rest = result.output.partition("\n")
    assert (rest if first.startswith("preset ") else result.output).startswith("error: ")
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output
