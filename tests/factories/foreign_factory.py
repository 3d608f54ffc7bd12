"""A small corpus as other tools would list it: the audio, and its rows by hand."""

from __future__ import annotations

import re
from pathlib import Path

from audio_factory import RATE, write_audio
from click.testing import Result
from command_factory import call
from pages import block, shell

from mfhca_cache.manifest.manifest import read_manifest
from mfhca_cache.manifest.utterance import Utterance

SPEAKERS = {"anna": "f", "ben": "m", "carla": "f", "dora": "f"}
LABELS = ("joy", "anger")


def corpus(root: Path) -> list[Utterance]:
    """Writes two recordings for each of four speakers; returns the rows of the manifest, by hand."""
    rows = []
    for speaker, gender in SPEAKERS.items():
        for number, label in enumerate(LABELS):
            path = f"{speaker}/{number}.wav"
            write_audio(root / path, path, 0.1 + 0.05 * number)
            samples = round(RATE * (0.1 + 0.05 * number))
            rows.append(Utterance(f"{speaker}/{number}", path, speaker, label, "", gender, samples, RATE))
    return rows


def manifest(folder: Path, *arguments: str) -> Result:
    """Runs `manifest` with the root folder/audio and the output folder/out.csv."""
    return call("manifest", *arguments, "--root", str(folder / "audio"), "--out", str(folder / "out.csv"))


def made(folder: Path, *arguments: str) -> list[Utterance]:
    """The rows of the manifest that the command wrote."""
    result = manifest(folder, *arguments)
    assert result.exit_code == 0, result.output
    return list(read_manifest(folder / "out.csv").utterances)


def made_as_the_page_says(folder: Path, tool: str) -> list[Utterance]:
    """`made` by the command on the page about import, with folder/audio and folder/out.csv."""
    lines = block("import-export.md", "shell", "tools").splitlines()
    (command,) = [line for line in lines if f"manifest {tool} " in line]
    shell(folder, re.sub(r"--root \S+ --out \S+", "--root audio --out out.csv", command))
    return list(read_manifest(folder / "out.csv").utterances)
