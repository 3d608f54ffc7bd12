"""Trackers of training: TensorBoard and MLflow get every epoch, the settings, the final scores and the confusion.

They only read what the run writes anyway. A tracker that fails causes one warning and gets nothing more: no result
depends on it, and it cannot end a run.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_cache.common.extras import optional
from mfhca_cache.common.files import sha256_text
from mfhca_cache.common.log import LOG
from mfhca_train.config.settings import setting_text
from mfhca_train.report.repeat import flat
from mfhca_train.results.record import parse_results
from mfhca_train.results.schema import SCORES, RowResults
from mfhca_train.training.epochs import Epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRACKERS = ("tensorboard", "mlflow")  # the same names as in cli.options; a test compares them
LONGEST_NAME = 240  # characters; MLflow allows 250
LOCAL_STORE = "mlruns"  # of MLflow, next to the run folder, unless MLFLOW_TRACKING_URI names another


class Backend(Protocol):
    """Where a tracker writes."""

    def epoch(self, epoch: Epoch) -> None:
        """Scalars of one epoch."""

    def row(self, name: str, row: RowResults) -> None:
        """Settings, final scores and confusion of a row."""

    def close(self, succeeded: bool) -> None:
        """The end of the run."""


class Tracker:
    """Passes everything on to its back ends; one that fails gets nothing more."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self._backends = dict(backends)

    def on_epoch(self, epoch: Epoch) -> None:
        """See `epochs.EpochWatcher`."""
        self._each(lambda backend: backend.epoch(epoch))

    def finish(self, results: object) -> None:
        """Writes what is in the content of results.json."""
        for name, row in parse_results(results).rows.items() if self._backends else ():
            self._each(lambda backend, name=name, row=row: backend.row(name, row))  # type: ignore[misc]

    def close(self, succeeded: bool) -> None:
        """The end of the run."""
        self._each(lambda backend: backend.close(succeeded))

    def _each(self, call: Callable[[Backend], None]) -> None:
        for name, backend in list(self._backends.items()):
            try:
                call(backend)
            except Exception as error:  # whatever a foreign library raises must not end the training
                del self._backends[name]
                reason = str(error).strip().splitlines() or [""]
                LOG.warning(
                    "--track %s: stopped (%s: %s); the run continues", name, type(error).__name__, reason[0]
                )


@contextlib.contextmanager
def tracking(names: Sequence[str], out: Path) -> Iterator[Tracker]:
    """The trackers of a run.

    Args:
        names: of TRACKERS.
        out: the run folder.

    Raises:
        MfhcaError: there is no such tracker, or its library is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise MfhcaError(f"track: no tracker {name!r}; {did_you_mean(name, TRACKERS)}")
        optional(name, name)
    backends: dict[str, Callable[[Path], Backend]] = {"tensorboard": _TensorBoard, "mlflow": _MLflow}
    tracker = Tracker({name: backends[name](out) for name in names})
    succeeded = False
    try:
        yield tracker
        succeeded = True
    finally:
        tracker.close(succeeded)


class _TensorBoard:
    """Event files in RUN/tensorboard: one folder per unit, so that their curves lie over each other, and per row."""

    def __init__(self, out: Path) -> None:
        self._folder, self._writers = out / "tensorboard", dict[str, Any]()

    def _writer(self, name: str) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        if name not in self._writers:
            self._writers[name] = SummaryWriter(self._folder / _plain_name(name))
        return self._writers[name]

    def epoch(self, epoch: Epoch) -> None:
        writer = self._writer(f"{epoch.row}-seed-{epoch.seed}-fold-{epoch.fold}")
        for name, value in epoch.scores.items():
            writer.add_scalar(name, value, epoch.epoch)
        writer.flush()

    def row(self, name: str, row: RowResults) -> None:
        writer = self._writer(name)
        writer.add_hparams(_settings(row), _scores(row), run_name=".")
        writer.add_figure("confusion", _confusion(row))

    def close(self, succeeded: bool) -> None:  # noqa: ARG002, as MLflow's
        for writer in self._writers.values():
            writer.close()


class _MLflow:
    """One MLflow run; the names of its metrics have row, seed and fold."""

    def __init__(self, out: Path) -> None:
        self._out, self._id = out, ""
        self._client: Any = None  # from the first epoch on

    def _run(self) -> tuple[Any, str]:
        if self._client is None:
            from mlflow import MlflowClient

            uri = os.environ.get("MLFLOW_TRACKING_URI")
            if not uri:  # MLflow's other local store, a database, needs more than mlflow-skinny
                os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
                uri = (self._out.absolute().parent / LOCAL_STORE).as_uri()
            client = MlflowClient(uri)
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "mfhca")
            experiment = client.get_experiment_by_name(name)
            key = experiment.experiment_id if experiment else client.create_experiment(name)
            self._id = client.create_run(key, run_name=self._out.name).info.run_id
            self._client = client
        return self._client, self._id

    def epoch(self, epoch: Epoch) -> None:
        client, key = self._run()
        for name, value in epoch.scores.items():
            unit = f"{epoch.row}.seed-{epoch.seed}.fold-{_plain_name(epoch.fold)}.{name}"
            client.log_metric(key, _plain_name(unit), value, step=epoch.epoch)

    def row(self, name: str, row: RowResults) -> None:
        client, key = self._run()
        for setting_name, value in _settings(row).items():
            client.log_param(key, _plain_name(f"{name}.{setting_name}"), value)
        for score, number in _scores(row).items():
            client.log_metric(key, _plain_name(f"{name}.{score}"), number)
        client.log_figure(key, _confusion(row), f"confusion-{_plain_name(name)}.png")

    def close(self, succeeded: bool) -> None:
        if self._client is not None:
            self._client.set_terminated(self._id, "FINISHED" if succeeded else "FAILED")


def _plain_name(name: str) -> str:
    """A name that both back ends and every file system accept; different names stay different.

    >>> _plain_name("model-fold-2"), _plain_name("Müller/2"), _plain_name("Möller/2")
    ('model-fold-2', 'M_ller_2-6cc91690', 'M_ller_2-fa7d61db')
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    if plain == name and len(name) <= LONGEST_NAME:
        return name
    return f"{plain[: LONGEST_NAME - 9]}-{sha256_text(name)[:8]}"


def _settings(row: RowResults) -> dict[str, str]:
    """What decides the scores, for people: corpus, protocol, keys of the features' recipes, and every setting."""
    found = {"corpus": row.corpus, "label_set": row.label_set, "protocol": row.protocol}
    found |= {f"features.{side}": key for side, key in row.recipes.items()}
    return found | {name: setting_text(value) for name, value in flat(row.config).items()}


def _scores(row: RowResults) -> dict[str, float]:
    """Mean over the folds, and pooled."""
    return {
        f"test_{name}{suffix}": getattr(row.score(name), key)
        for name in SCORES
        for suffix, key in (("", "mean"), ("_pooled", "pooled"))
    }


def _confusion(row: RowResults) -> Figure:
    """Counts of utterances; rows are the true classes, colours the share of each row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 0.8 * len(row.classes),) * 2, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(
        [[count / max(1, sum(line)) for count in line] for line in row.confusion], "Blues", vmin=0, vmax=1
    )
    for i, line in enumerate(row.confusion):
        for j, count in enumerate(line):
            dark = count > 0.5 * sum(line)
            axes.text(j, i, f"{count}", ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(row.classes)), row.classes, rotation=45, ha="right")
    axes.set_yticks(range(len(row.classes)), row.classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure
