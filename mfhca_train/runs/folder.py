"""A run's folder: run.json is written, and compared with what is asked for now, and the finished units are found.

The fields of run.json are in `results.run_file`.
A cv run records its one row at the top level, an ablation records a table `rows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mfhca_cache.common import log
from mfhca_cache.common.cluster import Cluster
from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import Fold
from mfhca_train.results.checksums import DATA_DIGEST, write_sealed
from mfhca_train.results.run_file import AUDIO_CHECKED
from mfhca_train.results.schema import CV_ROW, RESULT_FILE, RUN_FILE, unit_folder
from mfhca_train.runs import data_csv
from mfhca_train.runs.plan import Row
from mfhca_train.training import process, queue

# Entries of run.json in which data.csv can explain a difference.
DIGESTS = ("data_digest", "features_digest", "label_digest", "folds_digest")
ENVIRONMENT = ("versions", "cpu", "device", "accelerator")  # see `process.environment`
# Entries of run.json that change no result.
NOT_DECIDING = (*ENVIRONMENT, "recipe_names", AUDIO_CHECKED, DATA_DIGEST)


def recorded_rows(about: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of each row in a run.json; a cv run has the one row CV_ROW."""
    if not about:
        return {}
    if isinstance(rows := about.get("rows"), dict):
        return dict(rows)
    return {CV_ROW: {name: value for name, value in about.items() if name not in NOT_DECIDING}}


def is_same_row(out: Path, row: str, recorded: Any, identity: Mapping[str, Any], corpus: Corpus) -> bool:
    """Checks that a row in a run folder is the one that was asked for.

    Args:
        out: the run folder.
        row: the row's name.
        recorded: its identity in run.json.
        identity: the one that was asked for.
        corpus: its features, to list the utterances that differ.

    Returns:
        True if they are the same; False if they differ, but the recorded row has not finished its first epoch
        and may be replaced.

    Raises:
        MfhcaError: they differ, and the recorded row is trained.
    """
    differing = list(_differences(recorded, identity))
    if not differing:
        return True
    trained = any(any((out / row).glob(f"seed-*/{p}")) for p in ("fold-*", ".fold-*/checkpoint.safetensors"))
    if trained:
        if any(line.startswith(DIGESTS) for line in differing):
            differing += data_csv.differences(out, corpus)
        if len(differing) == 1 and differing[0].startswith("features_digest"):
            differing.append(
                "the audio and labels are the same: the features were computed again, with other versions, variables, "
                "threads or another processor or device"
            )
        raise MfhcaError(
            f"{out} holds another run; choose another --out (or RUN=), or delete it. Differences:\n"
            f"{listing(differing)}"
        )
    return False


def _differences(recorded: Any, identity: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    recorded = recorded if isinstance(recorded, dict) else {}
    for key in dict.fromkeys([*identity, *recorded]):  # some are left out at their default, in either of them
        before, now = recorded.get(key), identity.get(key)
        if isinstance(before, dict) or isinstance(now, dict):
            yield from _differences(before or {}, now or {}, f"{prefix}{key}.")
        elif before != now:
            if key in DIGESTS:
                before, now = str(before)[:16], str(now)[:16]
            before, now = ("not set" if value is None else value for value in (before, now))
            yield f"{prefix}{key}: {before} in that run, {now} now"


def record(
    out: Path,
    recorded: Mapping[str, Any],
    about: Mapping[str, Any],
    device: str,
    cluster: Cluster | None,
    to_train: bool,
) -> dict[str, Any]:
    """Writes run.json, or compares the environment that it was started in with the present one.

    Args:
        out: the run folder.
        recorded: content of its run.json; empty if there is none.
        about: content of a new run.json, without the environment.
        device: as asked for.
        cluster: where units are trained.
        to_train: whether any unit is unfinished.

    Returns:
        The present environment; only its versions if nothing is to be trained.

    Raises:
        MfhcaError: the run was started on another kind of device.
    """
    if recorded and not to_train:
        present = {"versions": process.versions()}
    else:
        present = queue.environment(device, cluster if to_train else None)
    _log(present)
    content = {**about, **present}
    if recorded:
        _compare_environment(out, recorded, present)
        content = {**recorded, AUDIO_CHECKED: recorded.get(AUDIO_CHECKED) or about[AUDIO_CHECKED]}
        if recorded.get("rows") != about.get("rows"):  # an ablation with further rows
            names = {**recorded.get("recipe_names", {}), **about["recipe_names"]}
            content |= {"rows": about["rows"], "recipe_names": names}
    if content != recorded:
        write_sealed(out / RUN_FILE, content)
    return present


def _compare_environment(out: Path, recorded: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Refuses another kind of device, and warns of what may change the last digits."""
    changed = [
        f"{name} {then} then, {now} now"
        for name, then, now in process.differing(recorded.get("versions", {}), present["versions"])
    ]
    if changed:
        log.LOG.warning(
            "%s was started with other versions or variables (%s); the last digits may differ",
            out,
            "; ".join(changed),
        )
    if "device" not in present:
        return
    if recorded.get("device") != present["device"]:
        raise MfhcaError(
            f"{out} was started on {recorded.get('device')}, not on {present['device']}; "
            "pass --device or choose another --out"
        )
    for name in ("cpu", "accelerator"):
        before, now = recorded.get(name), present.get(name)
        if before != now:
            log.LOG.warning("%s was started on %s, this is %s; the last digits may differ", out, before, now)


def _log(present: Mapping[str, Any]) -> None:
    """Logs the environment; on a cluster, that of its workers."""
    versions = process.versions(process.LOGGED) | dict(present["versions"])
    log.LOG.debug("versions: %s", ", ".join(f"{name} {version}" for name, version in versions.items()))
    log.LOG.debug("machine: %s", process.description())
    if "device" in present:
        log.LOG.debug("device: %s, instructions %s", present["device"], present["cpu"])


def finished_folders(out: Path, row: Row) -> list[Path]:
    """Folders of the finished units of a row: with those asked for, all other folds and seeds that are complete."""
    names = {fold.id for fold in row.selected_folds}
    folds = [
        fold
        for fold in row.folds
        if fold.id in names or all(_is_finished(out, row, seed, fold) for seed in row.seeds)
    ]
    seeds = sorted({*finished_seeds(out, row, folds), *row.seeds})
    return [unit_folder(out, row.name, seed, fold.id) for seed in seeds for fold in folds]


def finished_seeds(out: Path, row: Row, folds: Sequence[Fold] | None = None) -> tuple[int, ...]:
    """The seeds of which all these folds are finished; by default the folds asked for."""
    names = [path.name.removeprefix("seed-") for path in (out / row.name).glob("seed-*")]
    folds = row.selected_folds if folds is None else folds
    seeds = sorted(int(name) for name in names if name.isdigit())
    return tuple(seed for seed in seeds if all(_is_finished(out, row, seed, fold) for fold in folds))


def _is_finished(out: Path, row: Row, seed: int, fold: Fold) -> bool:
    return (unit_folder(out, row.name, seed, fold.id) / RESULT_FILE).exists()
