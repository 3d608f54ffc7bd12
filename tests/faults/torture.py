"""The fault suite in its long form: hundreds of kills, flipped bits, full disks and edits, for docs/robustness.md.

    PYTHONPATH=tests:tests/factories \
        python -m faults.torture [--short] [--jobs N] [--out FILE] [--scratch FOLDER] [--only WORD]

Every outcome is a file in the scratch folder. An interrupted call resumes there, unless
the code has changed since; what a loss has left stays there to be looked at.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from places import REPOSITORY

from faults import edits, flips, full_disk, identity, kills, machines
from faults.command import load
from faults.trial import Outcome, Trial, do_all, read
from faults.world import EDITED, World, prepare

GROUPS: Final = {
    "kills": kills,
    "flips": flips,
    "full disk": full_disk,
    "edits": edits,
    "identity": identity,
    "machine": machines,
}
PROMISES: Final = {name: dict(module.PROMISES) for name, module in GROUPS.items()}
FAMILIES: Final[dict[str, str]] = {**kills.FAMILIES, **flips.FAMILIES, **full_disk.FAMILIES}

LONG: Final = {
    **dict.fromkeys(kills.PROMISES, 63),
    "kill -9 of `ablate`": 36,
    "kill -9 of `report`": 30,
    "kill -9 of `cv --jobs 2`": 9,
    kills.EDIT_FAULT: 30,
    **dict.fromkeys(flips.REGIONS, 24),
    **dict.fromkeys(flips.FILES, 36),
    flips.CHECKPOINT_FAULT: 20,
    **dict.fromkeys(full_disk.PROMISES, 5),
    **dict.fromkeys(edits.PROMISES, 4),
    **dict.fromkeys(identity.PROMISES, 4),
    **dict.fromkeys(machines.PROMISES, 2),
}
SHORT: Final = {
    "kill -9 of `features`": 3,
    "kill -9 of `cv`": 2,
    "kill -9 of `report`": 1,
    **dict.fromkeys(flips.REGIONS, 1),
    **dict.fromkeys(flips.FILES, 1),
    flips.CHECKPOINT_FAULT: 1,
    "no space for `features`: files that cannot grow": 1,
    "no space for `cv`: files that cannot grow": 1,
    "no space for `features`: a full disk": 1,
    "a shard cut short while `cv` reads it": 1,
    "two extractions at once": 1,
    "a shard deleted between `status` and `cv`": 1,
    "audio edited after extraction": 1,
    **dict.fromkeys(identity.PROMISES, 1),
    "two users of a group share cache and run": 1,
    "an inherited MPLBACKEND that does not exist": 1,
    "bad audio files among good ones: `features`": 1,
    "bad audio files among good ones: `predict`": 1,
}


def trials(counts: Mapping[str, int]) -> list[Trial]:
    """So many trials of every fault."""
    return [trial for module in GROUPS.values() for trial in module.trials(counts)]


def summary(counts: Mapping[str, int], outcomes: Path) -> list[dict[str, Any]]:
    """What is known so far, fault by fault."""
    found: list[dict[str, Any]] = []
    for group, promises in PROMISES.items():
        for fault, promise in promises.items():
            known = [
                read(path)
                for trial in GROUPS[group].trials({fault: counts.get(fault, 0)})
                if (path := outcomes / f"{trial.name}.json").exists()
            ]
            if fault in counts:
                found.append(_line(group, fault, promise, counts[fault], known))
    return found


def _line(group: str, fault: str, promise: str, wanted: int, known: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "group": group,
        "fault": fault,
        "family": FAMILIES.get(fault, fault),
        "promise": promise,
        "trials": f"{len(known)} of {wanted}",
        "tried": sum(outcome.tried for outcome in known),
        "refusals": sum(outcome.refusals for outcome in known),
        "losses": sum(len(outcome.losses) for outcome in known),
        "skipped": next((outcome.skipped for outcome in known if outcome.skipped), ""),
    }


def code_digest() -> str:
    """Of all that decides what a trial finds."""
    digest = hashlib.sha256()
    for folder in ("mfhca_cache", "mfhca_train", "tests/faults"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def torture(counts: Mapping[str, int], world: World, outcomes: Path, slots: int, out: Path) -> int:
    """Does what is left of the trials and writes the counts after each; how many losses there are."""
    clock = outcomes / "seconds"
    before, started = float(clock.read_text()) if clock.exists() else 0.0, time.monotonic()
    everything = trials(counts)
    left = sum(not (outcomes / f"{trial.name}.json").exists() for trial in everything)
    machine = _machine()

    def write() -> int:
        seconds = before + time.monotonic() - started
        clock.write_text(str(seconds))
        faults = summary(counts, outcomes)
        groups = {g: sum(line["tried"] for line in faults if line["group"] == g) for g in GROUPS}
        losses = sum(line["losses"] for line in faults)
        value = {"machine": machine, "seconds": round(seconds), "tried": groups, "losses": losses}
        text = json.dumps(value | {"faults": faults}, indent=1, ensure_ascii=False) + "\n"
        out.with_suffix(".tmp").write_text(text)
        out.with_suffix(".tmp").replace(out)
        return losses

    def done(trial: Trial, outcome: Outcome) -> None:
        nonlocal left
        left -= 1
        for loss in outcome.losses:
            print(f"LOSS in {trial.name}: {loss}", file=sys.stderr, flush=True)
        if left % 20 == 0:
            print(f"{trial.fault}: {left} trials left", file=sys.stderr, flush=True)
            write()

    try:
        do_all(everything, world, outcomes, slots, done)
    finally:
        losses = write()
    return losses


def _machine() -> dict[str, str]:
    sys.path.insert(0, str(REPOSITORY))  # `bench` is no part of the installed package
    from bench.computer import description

    return description()


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few of each, as in `make test`")
    parser.add_argument("--only", default="", help="faults whose name has this in it")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="trials side by side")
    parser.add_argument("--out", type=Path, help="the counts; default: bench/torture.json if all is done")
    parser.add_argument("--scratch", type=Path, default=REPOSITORY / ".torture")
    given = parser.parse_args()
    counts = {f: n for f, n in (SHORT if given.short else LONG).items() if given.only in f}
    scratch: Path = given.scratch.resolve()
    made_by, digest = scratch / "code", code_digest()
    if scratch.exists() and (not made_by.exists() or made_by.read_text() != digest):
        if not made_by.exists() and any(scratch.iterdir()):
            sys.exit(f"{scratch} is not of this program; choose another --scratch")
        shutil.rmtree(scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    made_by.write_text(digest)
    os.environ["OMP_NUM_THREADS"] = "1"
    load()
    try:
        losses, out = _all(given, counts, scratch)
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to resume")
    print(f"{losses} losses; {out}")
    sys.exit(1 if losses else 0)


def _all(given: argparse.Namespace, counts: Mapping[str, int], scratch: Path) -> tuple[int, Path]:
    """World and trials; how many losses there are, and where the counts are."""
    short = {"names": ("features", "cv", "report"), "edited": EDITED[:1], "edits": ("audio",)}
    world = prepare(scratch / "world", **(short if given.short else {}))
    outcomes = scratch / "outcomes"
    outcomes.mkdir(exist_ok=True)
    out = given.out or (REPOSITORY / "bench" if counts == LONG else scratch) / "torture.json"
    return torture(counts, world, outcomes, given.jobs, out), out


if __name__ == "__main__":
    main()
