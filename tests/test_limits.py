"""Commands that get too little memory or too few open files end with one sentence and the remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_factory import manifest_of, write_audio
from corpus_factory import request

from mfhca_cache.manifest.utterance import Utterance

pytest.importorskip("resource", reason="this system has no such limits")
SPEAKERS = 12
# Sets a limit once everything is imported, and runs commands one after the other.
SCRIPT = """
import json, resource, sys
import mfhca_cache.build.builder, mfhca_cache.doctor.corpus
from mfhca_cache.cli import main as cache
kind, room, commands = json.loads(sys.argv[1])
if any(name == "cv" for name, *_ in commands):
    import mfhca_train.runs.crossval, mfhca_train.training.fit
    from mfhca_train.cli.main import main as train
if kind == "RLIMIT_AS":
    room += 1024 * int(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmSize")))
resource.setrlimit(getattr(resource, kind), (room, room))
for name, *rest in commands:
    print("code", (train if name == "cv" else cache)([name, *rest], standalone_mode=False), flush=True)
"""


def run(folder: Path, kind: str, room: int, *commands: list[str]) -> tuple[list[str], str]:
    """Exit codes and all output of commands under a limit."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([kind, room, commands])],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    return [line.split()[1] for line in lines if line.startswith("code ")], done.stdout


def test_too_few_open_files_for_the_shards_are_said_with_the_remedy(tmp_path: Path) -> None:
    rows = [Utterance(f"u{n}", f"u{n}.wav", f"s{n:02}", "joy" if n % 2 else "anger") for n in range(SPEAKERS)]
    for row in rows:
        write_audio(tmp_path / "data" / row.path, row.utterance, 0.2)
    manifest_of(tmp_path / "rows.csv", rows)
    request(tmp_path, rows)
    places = ["--root", "data", "--cache", "new", "--kind", "logspec"]
    cv = ["cv", "corpus.csv", "--cache", "cache", "--out", "run", "--device", "cpu", "--jobs", "1"]
    codes, output = run(
        tmp_path, "RLIMIT_NOFILE", 10, ["features", "rows.csv", *places], ["doctor", "rows.csv", *places], cv
    )
    assert codes == ["1", "1", "1"], output
    features, doctor, training, _ = output.split("code 1")
    for said in (features, training):
        assert [line for line in said.splitlines() if line.startswith("error: ")] == [
            "error: too many open files; raise the limit with `ulimit -n 4096`, or use fewer --jobs"
        ], output
    assert "one per speaker and kind of features; this system allows 10; raise the hard limit" in doctor


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the size of a process is read from /proc")
def test_too_little_memory_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    soundfile.write(tmp_path / "data/long.wav", np.zeros(16_000 * 1800, np.int16), 16_000)
    manifest_of(tmp_path / "rows.csv", [Utterance("long", "long.wav", "a", "joy")])
    command = ["features", "rows.csv", "--root", "data", "--cache", "new", "--kind", "logspec", "--jobs", "1"]
    codes, output = run(tmp_path, "RLIMIT_AS", 60 << 20, command)
    assert codes == ["1"], output
    assert output.count("not enough memory; close other programs") == 1, output
    assert "unexpected" not in output
