"""Calling `mfhca-cache` in tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from mfhca_cache.cli import main
from mfhca_cache.manifest.utterance import Utterance

HEAVY = ("numpy", "torch", "h5py", "transformers", "librosa", "soundfile", "scipy", "soxr")


def command(folder: Path, cache: Path, *options: str, name: str = "features", ssl: bool = False) -> list[str]:
    """Arguments of a command for the corpus in a folder, without or with an encoder."""
    which = ["--backbone", str(folder / "hubert")] if ssl else ["--kind", "logspec"]
    places = [str(folder / "rows.csv"), "--root", str(folder / "audio"), "--cache", str(cache)]
    return [name, *places, *which, *options]


def call(*arguments: str, answer: str | None = None) -> Result:
    """Runs a command; unexpected exceptions are raised."""
    result = CliRunner().invoke(main, arguments, input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: str, answer: str | None = None) -> str:
    """The output of a command that exits with 0."""
    result = call(*arguments, answer=answer)
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(*arguments: str) -> str:
    """The error message of a command that exits with 1."""
    result = call(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    return result.stderr


def recipe_name(own: Path) -> str:
    """Name of the only logspec folder of a cache."""
    return next((own / "cache").glob("logspec-*")).name


def manifest_rows(own: Path) -> list[Utterance]:
    """The rows of the manifest of `own`."""
    from mfhca_cache.manifest.manifest import read_manifest

    return list(read_manifest(own / "rows.csv").utterances)


def modules_after(arguments: list[str]) -> tuple[set[str], str]:
    """Which heavy modules a command leaves imported, in a process of its own, and what it printed."""
    code = (
        "import sys\nfrom mfhca_cache.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('MODULES', *(m for m in {HEAVY!r} if m in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    printed, _, modules = run.stdout.rpartition("MODULES")
    return set(modules.split()), printed


def size(cache: Path) -> int:
    """Size in bytes of all files that exist now."""
    total = 0
    for path in list(cache.rglob("*")):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total
