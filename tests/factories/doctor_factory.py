"""Running `mfhca-cache doctor` in tests."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from mfhca_cache.cli import main


def ask(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, ["doctor", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def of_corpus(folder: Path, **changes: str | Path) -> list[str | Path]:
    told: dict[str, str | Path] = {"root": folder / "audio", "cache": folder / "cache", **changes}
    return [folder / "rows.csv", *(part for name, value in told.items() for part in (f"--{name}", value))]
