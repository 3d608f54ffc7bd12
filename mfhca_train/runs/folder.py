"""run.json: what decides the results of a run folder, and where they were begun. Another run is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mfhca_cache.common import log
from mfhca_cache.common.cluster import Cluster
from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_train.data.corpus import Corpus
from mfhca_train.results.checksums import DATA_DIGEST, write_sealed
from mfhca_train.results.checksums import read_about as read_about
from mfhca_train.results.schema import RUN_FILE
from mfhca_train.runs import data_csv
from mfhca_train.training import process, queue

DIGESTS = ("data_digest", "label_digest", "folds_digest")  # whose difference data.csv can explain
SURROUNDINGS = ("versions", "cpu", "device")  # in run.json beside what decides the results; see `pool`
BESIDE = (*SURROUNDINGS, "recipe_names", DATA_DIGEST)  # all that is in it and decides nothing


def refuse_another(out: Path, row: str, there: Any, identity: Mapping[str, Any], corpus: Corpus) -> bool:
    """Checks that a row which is already in a run folder is the same one.

    Args:
        out: the run folder.
        row: the row's name.
        there: what run.json says of it.
        identity: what would go on.
        corpus: its features, to tell which utterances differ.

    Returns:
        Whether it is the same; another one that failed before the end of its first epoch may be replaced.

    Raises:
        MfhcaError: it is another one, and trained.
    """
    differing = list(_differences(there, identity))
    if not differing:
        return True
    trained = any(any((out / row).glob(f"seed-*/{p}")) for p in ("fold-*", ".fold-*/checkpoint.safetensors"))
    if trained:
        if any(line.startswith(DIGESTS) for line in differing):
            differing += data_csv.differences(out, corpus)
        raise MfhcaError(
            f"{out} holds another run; choose another --out (or RUN=), or delete it. "
            f"It differs in (there: that run, here: what was asked for now):\n{listing(differing)}"
        )
    return False


def _differences(there: Any, here: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in here.items():
        other = there.get(key) if isinstance(there, dict) else None
        if isinstance(value, dict):
            yield from _differences(other or {}, value, f"{prefix}{key}.")
        elif other != value:
            if key in DIGESTS:
                other, value = str(other)[:16], str(value)[:16]
            yield f"{prefix}{key}: {other} there, {value} here"


def claim(
    out: Path, deciding: Mapping[str, Any], device: str, cluster: Cluster | None, to_train: bool
) -> dict[str, Any]:
    """Writes run.json, or compares where it was begun with where it would go on.

    Args:
        out: the run folder.
        deciding: what run.json says besides the surroundings, where it is new.
        device: as asked for.
        cluster: where units are trained.
        to_train: whether any unit is left.

    Returns:
        Where it would go on: `surroundings`, or the versions alone if nothing is to be trained.

    Raises:
        MfhcaError: it was begun on another kind of device.
    """
    cluster = cluster if to_train else None
    there = read_about(out)
    if not there:
        here = queue.surroundings(device, cluster)
        write_sealed(out / RUN_FILE, {**deciding, **here})
        _log(here)
        return here
    here = queue.surroundings(device, cluster) if to_train else {"versions": process.versions()}
    _log(here)
    changed = [
        f"{name} {there.get('versions', {}).get(name)} there, {version} here"
        for name, version in here["versions"].items()
        if there.get("versions", {}).get(name) != version
    ]
    if changed:
        log.LOG.warning(
            "%s was begun with other versions (%s); last digits may differ", out, "; ".join(changed)
        )
    if not to_train:
        return here
    if there.get("device") != here["device"]:
        raise MfhcaError(
            f"{out} was begun on {there.get('device')}, this is {here['device']}; "
            "pass --device or choose another --out"
        )
    if there.get("cpu") != here["cpu"]:
        log.LOG.warning(
            "%s was begun on %s, this is %s; last digits may differ", out, there.get("cpu"), here["cpu"]
        )
    return here


def _log(here: Mapping[str, Any]) -> None:
    """Notes in the log where it goes on; of a cluster, what its workers have."""
    versions = process.versions(process.LOGGED) | dict(here["versions"])
    log.LOG.debug("versions: %s", ", ".join(f"{name} {version}" for name, version in versions.items()))
    log.LOG.debug("machine: %s", process.description())
    if "device" in here:
        log.LOG.debug("device: %s, instructions %s", here["device"], here["cpu"])


def note(text: str) -> None:
    """A line on standard error and in the log."""
    log.LOG.info("%s", text)
