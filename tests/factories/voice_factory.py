"""A finished run on real audio files: some of the demo's utterances, its encoder, both stages by their commands."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from click.testing import CliRunner

from mfhca_cache.cli import main as cache_command
from mfhca_cache.manifest.manifest import Manifest, read_manifest, write_manifest
from mfhca_train.cli.main import main as train_command

SETTINGS = {
    "model.grf_channels": "4,4",
    "model.width": "16",
    "model.mask_padding": "true",
    "train.ssl_norm": "standard",
    "train.lr": "1e-2",
    "train.epochs": "1",
    "train.batch_size": "8",
}
SPEAKERS, EACH = 4, 5  # utterances of each


@dataclass(frozen=True)
class Trained:
    """What is on the disk."""

    manifest: Manifest
    root: Path
    cache: Path
    run: Path
    backbone: Path

    def audio(self, speaker: str) -> list[Path]:
        """The files of a speaker, in the order of the manifest."""
        return [self.root / u.path for u in self.manifest.utterances if u.speaker == speaker]


def invoke(command: object, *arguments: object) -> str:
    """Runs a command that must succeed; what it prints."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.output


def cross_validate(manifest: Path, cache: Path, out: Path, *more: str, **settings: str | None) -> Path:
    """A run with small settings; None takes the default of a setting."""
    chosen = {**SETTINGS, **{name.replace("__", "."): value for name, value in settings.items()}}
    parts = [
        part for name, value in chosen.items() if value is not None for part in ("--set", f"{name}={value}")
    ]
    invoke(train_command, "cv", manifest, "--cache", cache, "--out", out, "--jobs", 1, *parts, *more)
    return out


@functools.cache
def trained() -> Trained:
    """The run, made once for all tests; they leave it as it is."""
    torch.set_num_threads(1)
    folder = Path(_keep().name)
    root, table = folder / "data", folder / "voices.csv"
    invoke(cache_command, "manifest", "demo", "--root", root, "--out", folder / "demo.csv")
    everything = read_manifest(folder / "demo.csv").utterances
    speakers = sorted({u.speaker for u in everything})[:SPEAKERS]
    rows = [u for s in speakers for u in [u for u in everything if u.speaker == s][: 3 * EACH : 3]]
    write_manifest(table, rows)
    backbone, cache = root / "hubert-demo", folder / "cache"
    invoke(
        cache_command,
        "features",
        table,
        "--root",
        root,
        "--cache",
        cache,
        "--backbone",
        backbone,
        "--threads",
        1,
    )
    run = cross_validate(table, cache, folder / "run")
    return Trained(read_manifest(table), root, cache, run, backbone)


@functools.cache
def _keep() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mfhca-run-")
