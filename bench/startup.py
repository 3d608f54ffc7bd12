"""How long commands take that have nothing to compute."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path

from bench.report import Measurement, Section, Target, number
from bench.run import Run
from bench.synthetic import RATE, linked_corpus, write_cache
from bench.timing import Spread, cost_of, in_turns
from mfhca_cache.build.plan import make_targets
from mfhca_cache.features.backbone import resolve
from mfhca_cache.manifest.card import ExpectedCounts, find_card, read_card
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.choices import Settings

LONG, SHORT = 4.5, 2.0  # seconds: two segments, one segment
SEGMENTS = 10_993  # of IEMOCAP's 5,531 utterances
HEAVY = ("torch", "transformers", "sklearn", "matplotlib", "librosa")


def command(module: str, *arguments: str) -> list[str]:
    """A command of the project, as its console script runs it."""
    return [sys.executable, "-m", module, *arguments]


def iemocap_sized(quick: bool) -> list[Utterance]:
    """As many utterances per speaker as on IEMOCAP's card; names, sessions and lengths are generated."""
    path = find_card("iemocap")
    if path is None:
        raise AssertionError("the card of IEMOCAP is missing")
    expected = read_card(path).expected["four"]
    assert isinstance(expected, ExpectedCounts)
    assert expected.speakers is not None
    counts = expected.speakers
    labels = ("ang", "hap", "exc", "sad", "neu")
    rows = []
    for speaker, count in counts.items():
        for i in range(8 if quick else count):
            name = f"Ses0{speaker[0]}_{speaker[1]}{i:03d}"
            rows.append(
                Utterance(
                    name,
                    f"Session{speaker[0]}/{name}.wav",
                    speaker,
                    labels[i % len(labels)],
                    speaker[0],
                    speaker[1].lower(),
                    round(LONG * RATE),
                    RATE,
                )
            )
    return rows


def imported(module: str, log: Path) -> list[str]:
    """The heavy packages that `--help` imports."""
    cost_of([sys.executable, "-X", "importtime", "-m", module, "--help"], log)
    found = set(re.findall(r"\|\s+(\w+)\s*$", log.read_text(errors="replace"), re.MULTILINE))
    return sorted(found & set(HEAVY))


def measure(run: Run) -> Section:
    """Runs the section."""
    folder, log = run.folder / "startup", run.folder / "startup.log"
    rows = iemocap_sized(run.quick)
    short = {u.utterance for u in rows[: 2 * len(rows) - SEGMENTS]} if not run.quick else set()
    digests = linked_corpus(folder / "audio", rows, lambda u: SHORT if u.utterance in short else LONG)
    manifest, cache, out = folder / "iemocap.csv", folder / "cache", folder / "run"
    write_manifest(manifest, rows)
    targets = make_targets(cache, Settings(), resolve(str(run.encoder)))
    write_cache(targets, rows, digests, lambda u: 1 if u.utterance in short else 2)

    stage_one = ["--root", str(folder / "audio"), "--cache", str(cache), "--backbone", str(run.encoder)]
    # One epoch of the lightest model makes a finished run of ten folds.
    settings = ["model.inputs=ssl", "model.bilstm=false", "train.epochs=1"]
    cv = command("mfhca_train", "cv", str(manifest), "--cache", str(cache), "--out", str(out))
    cv += ["--jobs", str(run.cores), *(part for setting in settings for part in ("--set", setting))]
    cv.append("--accept-copies")  # the corpus has few recordings, under many names
    cost_of(cv, log)
    commands = {
        "cache help": command("mfhca_cache", "--help"),
        "train help": command("mfhca_train", "--help"),
        "status": command("mfhca_cache", "status", str(manifest), *stage_one),
        "features": command("mfhca_cache", "features", str(manifest), *stage_one, "--accept-copies"),
        "cv": cv,
    }

    cpu: dict[str, list[float]] = {name: [] for name in commands}

    def action(name: str) -> float:
        cost = cost_of(commands[name], log)
        cpu[name].append(cost.cpu)
        return cost.cpu if "help" in name else cost.wall

    found = in_turns(
        {name: partial(action, name) for name in commands},
        2 if run.quick else 5,
    )
    cost_of(commands["features"], log)
    if "nothing to compute" not in (output := log.read_text(errors="replace")):
        raise AssertionError(f"features found something to compute: {output[-500:]}")
    heavy = {module: imported(module, log) for module in ("mfhca_cache", "mfhca_train")}
    listed = "; ".join(f"{m}: {', '.join(names) or 'none'}" for m, names in heavy.items())
    counted = sum(map(len, heavy.values()))
    weights = sum(path.stat().st_size for path in run.encoder.iterdir()) / 1e6
    audio = sum((folder / "audio" / u.path).stat().st_size for u in rows) / 1e6

    def used(name: str) -> str:
        return f"{number(Spread.of(cpu[name]).median)} s of CPU time"

    return Section(
        "Start-up",
        f"A corpus of {len(rows):,} utterances and {2 * len(rows) - len(short):,} segments, {audio:,.0f} MB of audio "
        "in the page cache, ten speakers in five sessions, both kinds of features present. `status` and `features` "
        f"read and hash all audio and the encoder's weights ({weights:,.0f} MB); `cv` finds its ten folds finished "
        "(hidden states alone) and writes results and report again.",
        [
            Measurement("`mfhca-cache --help`", Spread.of(found["cache help"]), "CPU s", Target("<", 0.4)),
            Measurement("`mfhca-train --help`", Spread.of(found["train help"]), "CPU s", Target("<", 0.4)),
            Measurement(
                "heavy packages imported by either `--help`",
                Spread.of([counted]),
                "",
                Target("<=", 0),
                f"checked: torch and others; {listed}",
            ),
            Measurement(
                "`status`, everything up to date",
                Spread.of(found["status"]),
                "s",
                Target("<", 2),
                used("status"),
            ),
            Measurement(
                "`features`, everything up to date",
                Spread.of(found["features"]),
                "s",
                Target("<", 3),
                f"includes hashing, which the target does not count; {used('features')}",
            ),
            Measurement(
                "`cv`, everything up to date", Spread.of(found["cv"]), "s", Target("<", 3), used("cv")
            ),
        ],
    )
