"""Time and memory of `mfhca-cache status` when everything is up to date, for a manifest of any length.

    python -m bench.staleness [--utterances 100000] [--scratch FOLDER]

The audio is short, and every file is different; the shards have the tables of real ones (what
`status` reads), but one frame per segment instead of 300 and 149. Not part of `make bench`: generating
the data takes minutes and one or two gigabytes.
"""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import click
import numpy as np

from bench.synthetic import LABELS, RATE, encoder
from mfhca_cache.build.plan import make_targets
from mfhca_cache.features.backbone import resolve
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.choices import Settings
from mfhca_cache.recipe.folder import write_recipe
from mfhca_cache.store.schema import Origin
from mfhca_cache.store.writer import ShardWriter

SAMPLES = 1600  # 0.1 s
EACH = 1000  # utterances per speaker
# The peak of this process alone: the kernel's value for children includes the parent that they were forked from.
COMMAND = """
import re, sys
from mfhca_cache.cli import main
main(standalone_mode=False)
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
"""


def write_audio(root: Path, utterances: list[Utterance]) -> dict[str, str]:
    """Writes a WAV file of noise for every utterance; returns utterance id -> digest."""
    import io

    import soundfile

    rng, digests = np.random.default_rng(0), {}
    for u in utterances:
        path = root / u.path
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        noise = rng.integers(-3000, 3000, SAMPLES, np.int16)
        soundfile.write(buffer, noise, RATE, subtype="PCM_16", format="WAV")
        path.write_bytes(buffer.getvalue())
        digests[u.utterance] = hashlib.sha256(buffer.getvalue()).hexdigest()
    return digests


@click.command(help=__doc__)
@click.option("--utterances", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option(
    "--scratch", type=click.Path(path_type=Path), help="Folder of temporary files.  [default: the system's]"
)
def main(utterances: int, scratch: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="mfhca-staleness-", dir=scratch) as name:
        folder = Path(name)
        rows = [
            Utterance(
                f"u{i:06d}", f"s{i // EACH:03d}/{i:06d}.wav", f"s{i // EACH:03d}", LABELS[i % 4],
                samples=SAMPLES, sample_rate=RATE,
            )
            for i in range(utterances)
        ]  # fmt: skip
        write_manifest(folder / "generated.csv", rows)
        digests = write_audio(folder / "audio", rows)
        click.echo("audio written")
        backbone = resolve(str(encoder(folder / "encoder", quick=False)))
        of_speaker: dict[str, list[Utterance]] = defaultdict(list)
        for u in rows:
            of_speaker[u.speaker].append(u)
        for target in make_targets(folder / "cache", Settings(), backbone):
            write_recipe(target.folder, target.recipe, target.frame_shape)
            shape = (1, target.frame_shape[1])
            frame = np.zeros((1, *shape), np.float16)
            for speaker, rows_of in of_speaker.items():
                key, dtype = target.recipe.key, target.recipe.dtype
                with ShardWriter(target.folder, key, target.kind, speaker, shape, dtype) as writer:
                    for u in rows_of:
                        origin = Origin(digests[u.utterance], u.path)
                        writer.append(u.utterance, origin, frame, np.ones(1, np.int64))
                    writer.finish(None, (), {})
        click.echo("cache written")
        for _ in range(2):
            measure(folder, utterances)


def measure(folder: Path, utterances: int) -> None:
    """Runs the command and prints seconds and memory."""
    places = [
        str(folder / "generated.csv"),
        "--root",
        str(folder / "audio"),
        "--cache",
        str(folder / "cache"),
    ]
    arguments = ["status", *places, "--backbone", str(folder / "encoder")]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=True
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.count(f"{utterances} present of {utterances} utterances") == 2, done.stdout
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = 1024 * int(done.stderr.split()[-1])
    click.echo(
        f"status of {utterances} utterances, two kinds of features: {wall:.1f} s, "
        f"{cpu:.1f} CPU s, at most {peak / 1e9:.2f} GB of memory"
    )


if __name__ == "__main__":
    main()
