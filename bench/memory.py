"""Private memory (USS) of extraction and of two folds, over a corpus as large as IEMOCAP.

    python -m bench.memory --speech EMODB/wav --lengths UTTERANCES_CSV --backbone DIR [--set NAME=VALUE ...]

The audio is real speech, cut and joined to the lengths of the utterances that a table
lists (columns utterance, speaker, emotion, samples). Memory is sampled ten times a second; the
maximum of each quarter of the time is printed, so that growth is visible. Not part of
`make bench`: it takes most of an hour, and a few gigabytes of disk.
"""

from __future__ import annotations

import csv
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np

from bench.startup import command
from bench.step import fold_workers
from bench.synthetic import RATE
from bench.timing import private_bytes
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.manifest.utterance import Utterance

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def joined_corpus(root: Path, speech: Path, lengths: Path) -> list[Utterance]:
    """Writes the audio; returns the utterances, with session and gender from IEMOCAP's speaker names."""
    import soundfile

    pieces = [soundfile.read(path, dtype="int16")[0] for path in sorted(speech.glob("*.wav"))]
    rng, rows = np.random.default_rng(0), list[Utterance]()
    with open(lengths, newline="", encoding="utf-8") as file:
        for entry in csv.DictReader(file):
            length, parts = int(entry["samples"]), np.empty(0, np.int16)
            while len(parts) < length:
                parts = np.concatenate([parts, pieces[rng.integers(len(pieces))]])
            speaker = entry["speaker"]
            path = root / speaker / f"{entry['utterance']}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, parts[:length], RATE, subtype="PCM_16")
            rows.append(
                Utterance(
                    entry["utterance"],
                    str(path.relative_to(root)),
                    speaker,
                    entry["emotion"],
                    speaker[0],
                    speaker[1].lower(),
                    length,
                    RATE,
                )
            )
    return rows


def sample_memory(arguments: Sequence[str], processes: Callable[[int], Sequence[int]]) -> list[float]:
    """Runs a command; returns GB of the largest of its `processes`, sampled ten times a second."""
    samples = []
    with subprocess.Popen(arguments) as process:
        while process.poll() is None:
            samples.append(max([private_bytes(pid) for pid in processes(process.pid)], default=0) / 1e9)
            time.sleep(0.1)
    if process.returncode:
        raise click.ClickException(f"exit code {process.returncode}: {' '.join(arguments)}")
    return samples


def print_quarters(what: str, samples: Sequence[float]) -> None:
    """Prints the maximum of each quarter."""
    quarters = [max(part) for part in np.array_split(samples, 4)]
    click.echo(
        f"{what}: {', '.join(f'{q:.2f}' for q in quarters)} GB maximum in each quarter of {len(samples) / 10:.0f} s"
    )


@click.command(help=__doc__)
@click.option("--speech", type=FOLDER, required=True)
@click.option("--lengths", type=FILE, required=True)
@click.option("--backbone", type=FOLDER, required=True)
@click.option("--set", "settings", multiple=True, help="A setting of the folds.")
@click.option("--scratch", type=FOLDER, help="Folder of temporary files.  [default: the system's]")
def main(
    speech: Path, lengths: Path, backbone: Path, settings: tuple[str, ...], scratch: Path | None
) -> None:
    with tempfile.TemporaryDirectory(prefix="mfhca-memory-", dir=scratch) as name:
        folder = Path(name)
        rows = joined_corpus(folder / "audio", speech, lengths)
        write_manifest(folder / "joined.csv", rows)
        places = [str(folder / "joined.csv"), "--cache", str(folder / "cache")]
        features = ["features", *places, "--root", str(folder / "audio"), "--backbone", str(backbone)]
        weights = sum(path.stat().st_size for path in backbone.glob("*.safetensors")) / 1e9
        click.echo(f"{len(rows):,} utterances; the encoder's weights take {weights:.2f} GB")
        print_quarters("features", sample_memory(command("mfhca_cache", *features), lambda pid: [pid]))
        folds = [part for row in dict.fromkeys(u.speaker for u in rows) for part in ("--fold", row)][:4]
        cv = ["cv", *places, "--out", str(folder / "run"), "--jobs", "2", *folds, "--no-analysis"]
        cv += [part for setting in settings for part in ("--set", setting)]
        print_quarters(
            "a fold of cv, two in parallel", sample_memory(command("mfhca_train", *cv), fold_workers)
        )


if __name__ == "__main__":
    main()
