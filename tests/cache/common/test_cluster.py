"""Dask: the same results as on one machine, whichever worker dies, and no endless waiting."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from audio_factory import manifest_of, recorded, write_corpus
from click.testing import CliRunner, Result
from cluster_factory import Killer, Place, holders, needs_proc, wait_for
from corpus_factory import SMALL, request
from epoch_factory import reported, written
from grid_factory import write_grid
from run_factory import tree

from mfhca_cache.build import builder, distribute
from mfhca_cache.cli import main as cache_command
from mfhca_cache.common import cluster, log
from mfhca_cache.common.cluster import Cluster, results
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import lock
from mfhca_cache.corpora import demo_encoder
from mfhca_cache.features import backbone, checkpoint, encoder
from mfhca_train.cli.main import main as train_command
from mfhca_train.runs.crossval import cross_validate
from mfhca_train.training import queue
from mfhca_train.training.unit import Unit

EPOCHS = "5"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A scheduler; `two` gives it its workers."""
    found = Place(tmp_path_factory.mktemp("place"))
    yield found
    found.stop()


@pytest.fixture
def two(place: Place) -> Place:
    """The scheduler with two workers."""
    place.ensure(2)
    return place


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A scheduler without workers that gives up a task at the first worker lost."""
    found = Place(tmp_path_factory.mktemp("strict"), allowed_failures=0)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with its features, and a run trained here."""
    folder = tmp_path_factory.mktemp("finished")
    cross_validate(request(folder, settings={"train.epochs": EPOCHS}))
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Audio with one file that is none and one missing, an encoder, a manifest, and a cache filled here."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = write_corpus(folder / "audio")
    (folder / "audio/b/b2.wav").write_bytes(b"not audio")
    (folder / "audio/a/a3.wav").unlink()
    demo_encoder.write(folder / "hubert-demo")
    manifest_of(folder / "rows.csv", rows)
    features(folder, folder / "cache", "--threads", "1")
    return folder


def cv_arguments(folder: Path, out: Path, *more: str) -> list[str]:
    settings = {**SMALL, "train.epochs": EPOCHS}
    places = [str(folder / "corpus.csv"), "--cache", str(folder / "cache"), "--out", str(out)]
    return [
        "cv",
        "--no-analysis",
        "--preset",
        "paper",
        *places,
        *(part for name, value in settings.items() for part in ("--set", f"{name}={value}")),
        *more,
    ]


def cv(folder: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(train_command, cv_arguments(folder, out, *more))


def features(folder: Path, cache: Path, *more: str) -> Result:
    places = [str(folder / "rows.csv"), "--root", str(folder / "audio"), "--cache", str(cache)]
    return CliRunner().invoke(
        cache_command, ["features", *places, "--backbone", str(folder / "hubert-demo"), *more]
    )


def without_preset(text: str) -> list[str]:
    """The lines of a text but the one on the preset."""
    return [line for line in text.splitlines() if not line.startswith("preset ")]


def refused(result: Result, *words: str) -> None:
    """Exit code 1, and an error of one line with all these words."""
    assert result.exit_code == 1, result.output
    (line,) = without_preset(result.stderr)
    assert line.startswith("error: ")
    for word in words:
        assert word in result.stderr


def dask(place: Place, seconds: float = 20) -> list[str]:
    return ["--backend", "dask", "--scheduler", place.address, "--worker-timeout", str(seconds)]


def test_cv_gives_the_same_bytes_as_on_one_machine(
    two: Place, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths included: the workers live in another folder."""
    monkeypatch.chdir(finished)
    result = cv(Path(), Path("elsewhere"), *dask(two))
    assert result.exit_code == 0, result.output
    assert tree(finished / "elsewhere") == tree(finished / "run")


GRID = """
[base]
set = { "model.inputs" = "ssl" }

[[row]]
name = "with"
reference = true

[[row]]
name = "without"
set = { "model.bilstm" = false }
"""


def test_ablate_gives_the_same_results_as_on_one_machine(two: Place, tmp_path: Path) -> None:
    request(tmp_path)
    write_grid(tmp_path / "grid.toml", GRID)

    settings = {**SMALL, "train.epochs": "1"}
    del settings["model.grf_channels"]  # of the side that is not read here
    usual = [str(tmp_path / "corpus.csv"), "--cache", str(tmp_path / "cache"), "--no-analysis"]
    usual += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    usual += ["--seeds", "1", "--fold", "s0", "--fold", "s1"]

    def ablate(place: str, *more: str) -> Path:
        out = (
            tmp_path / place / "run"
        )  # in folders of their own: rows of runs beside each other are taken over
        arguments = ["ablate", str(tmp_path / "grid.toml"), *usual, "--out", str(out), *more]
        result = CliRunner().invoke(train_command, arguments)
        assert result.exit_code == 0, result.output
        return out

    here, there = ablate("here", "--jobs", "1"), ablate("there", *dask(two))
    assert (there / "results.json").read_bytes() == (here / "results.json").read_bytes()
    assert len(list(there.glob("*/seed-0/fold-*"))) == 4
    assert tree(there) == tree(here)


def test_what_a_worker_warns_of_is_told_here(two: Place, tmp_path: Path) -> None:
    with log.command(log.QUIET), log.to(tmp_path / "log.txt"):
        assert list(results(Cluster(two.address), warnings.warn, ["mind the gap"], str)) == [
            ("mind the gap", None)
        ]
    assert "warning: mind the gap (UserWarning, " in (tmp_path / "log.txt").read_text()


def test_features_give_the_same_digests_and_failures_as_on_one_machine(
    two: Place, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus)
    there = features(Path(), Path("there"), "--threads", "1", *dask(two))
    assert there.exit_code == 1, there.output
    assert recorded(corpus / "there") == recorded(corpus / "cache")
    assert len(recorded(corpus / "there")) == 6
    assert "2 of 7 utterances failed" in there.stderr
    assert "utterance a3: no file a/a3.wav" in there.stderr
    assert "b2.wav: not readable as audio" in there.stderr
    assert "computed 5 utterances, 18 segments" in there.stdout
    again = features(Path(), Path("there"), *dask(two))
    assert "computed 0 utterances" in again.stdout


@needs_proc
def test_a_killed_worker_loses_nothing_of_a_run(two: Place, finished: Path, tmp_path: Path) -> None:
    before: dict[Path, os.stat_result] = {}

    def choose() -> int | None:
        done = list(tmp_path.glob("run/model/seed-0/fold-*"))
        held = holders(tmp_path, two.pids)
        begun = [pid for pid, file in held.items() if Path(checkpoint_of(file)).exists()]
        if not done or not begun:
            return None
        before.update({path: path.stat() for folder in done for path in folder.iterdir()})
        return begun[0]

    killer, events = Killer(choose), []
    wanted = request(finished, settings={"train.epochs": EPOCHS}, out=tmp_path / "run")
    cross_validate(replace(wanted, cluster=Cluster(two.address, 20), on_epoch=(events.append,)))
    assert killer.victim in two.pids
    assert reported(events) == written(finished / "run")
    assert tree(tmp_path / "run") == tree(finished / "run")
    assert {path: path.stat().st_mtime_ns for path in before} == {p: s.st_mtime_ns for p, s in before.items()}


def checkpoint_of(lock_file: str) -> str:
    return lock_file.removesuffix(".lock") + ".partial/checkpoint.safetensors"


@needs_proc
def test_a_killed_worker_loses_nothing_of_a_cache(two: Place, corpus: Path, tmp_path: Path) -> None:
    killer = Killer(lambda: next(iter(holders(tmp_path / "cache", two.pids)), None))
    result = features(corpus, tmp_path / "cache", "--threads", "1", *dask(two))
    assert "2 of 7 utterances failed" in result.stderr
    assert killer.victim in two.pids
    assert recorded(tmp_path / "cache") == recorded(corpus / "cache")


ENDLESS = ("--set", "train.epochs=100000", "--set", "train.patience=100000")
CHECKPOINTS = "run/model/seed-0/.fold-*.partial/checkpoint.safetensors"


@needs_proc
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_workers_leave_a_unit_when_its_run_has_ended(
    two: Place, finished: Path, tmp_path: Path, end: signal.Signals
) -> None:
    """They would hold its lock against the next run for as long as it takes."""
    arguments = cv_arguments(finished, tmp_path / "run", *dask(two), *ENDLESS)
    program = [sys.executable, "-c", "from mfhca_train.cli.main import main; main()"]
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    with subprocess.Popen(
        [*program, *arguments], stderr=subprocess.PIPE, text=True, preexec_fn=listening
    ) as process:
        try:
            wait_for(lambda: len(list(tmp_path.glob(CHECKPOINTS))) == 2 or process.poll())
            process.send_signal(end)
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    if end == signal.SIGINT:
        assert process.returncode == 130
        assert without_preset(said) == ["interrupted; run the same command again to resume"]
    wait_for(lambda: not holders(tmp_path, two.pids))


@needs_proc
def test_a_scheduler_that_dies_ends_the_run_and_its_units(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    place = Place(tmp_path / "place")
    found: list[Result] = []
    run = threading.Thread(
        target=lambda: found.append(cv(finished, tmp_path / "run", *dask(place), *ENDLESS))
    )
    try:
        place.ensure(1)
        run.start()
        wait_for(lambda: list(tmp_path.glob(CHECKPOINTS)))
        place.stop_scheduler()
        run.join(30)
        refused(found[0], f"scheduler {place.address}: the connection was lost")
        wait_for(lambda: not holders(tmp_path, place.pids))
    finally:
        place.stop()


def test_a_unit_that_fails_is_one_line(two: Place, finished: Path, tmp_path: Path) -> None:
    result = cv(
        finished, tmp_path / "run", *dask(two), "--set", "train.lr=10", "--set", "train.weight_decay=1e6"
    )
    refused(result, "worker tcp://127.0.0.1:", "lower train.lr")


def test_no_worker_is_an_error_within_the_time(
    strict: Place, finished: Path, corpus: Path, tmp_path: Path
) -> None:
    for call in (
        lambda: cv(finished, tmp_path / "run", *dask(strict, 1)),
        lambda: features(corpus, tmp_path / "cache", *dask(strict, 1)),
    ):
        started = time.monotonic()
        result = call()
        assert time.monotonic() - started < 8
        refused(result, f"scheduler {strict.address}: no worker for 1 s", "--nthreads 1")


@needs_proc
def test_workers_that_vanish_are_an_error_within_the_time(two: Place, finished: Path, tmp_path: Path) -> None:
    found: list[Result] = []
    run = threading.Thread(target=lambda: found.append(cv(finished, tmp_path / "run", *dask(two, 1))))
    run.start()
    wait_for(lambda: holders(tmp_path, two.pids))
    two.stop_workers()
    run.join(20)
    refused(found[0], f"scheduler {two.address}: no worker for 1 s")


def test_a_task_that_kills_its_workers_is_named(strict: Place) -> None:
    strict.ensure(1)
    with pytest.raises(MfhcaError, match="item 1: its workers died repeatedly"):
        list(results(Cluster(strict.address, 20), os._exit, [1], lambda item: f"item {item}"))


def test_a_worker_with_threads_is_refused(strict: Place, finished: Path, tmp_path: Path) -> None:
    strict.stop_workers()
    strict.ensure(1, threads=2)
    refused(cv(finished, tmp_path / "run", *dask(strict)), "has 2 threads; start workers with `--nthreads 1`")


def test_a_scheduler_that_is_not_there_is_named(
    finished: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        for where in (address, "nonsense://1"):
            more = ("--backend", "dask", "--scheduler", where)
            for result in (
                cv(finished, tmp_path / "run", *more),
                features(corpus, tmp_path / "cache", *more),
            ):
                refused(result, f"scheduler {where}: cannot be reached")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "dask"], "--backend dask needs --scheduler ADDR"),
        (["--scheduler", "tcp://x:1"], "--scheduler needs --backend dask"),
        (["--worker-timeout", "9"], "--worker-timeout needs --backend dask"),
    ],
)
@pytest.mark.parametrize("command", [cv, features])
def test_wrong_usage_ends_with_2(
    finished: Path, tmp_path: Path, command: Callable[..., Result], options: list[str], message: str
) -> None:
    result = command(finished, tmp_path / "x", *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_jobs_would_be_ignored_by_a_cluster(finished: Path, tmp_path: Path) -> None:
    result = cv(finished, tmp_path / "run", "--backend", "dask", "--scheduler", "x", "--jobs", "2")
    assert result.exit_code == 2
    assert "--jobs cannot be used with --backend dask, which runs one fold per worker" in result.stderr


@pytest.mark.parametrize("command", [cv, features])
def test_the_missing_package_is_named(
    finished: Path, tmp_path: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = command(finished, tmp_path / "x", "--backend", "dask", "--scheduler", "tcp://x:1")
    refused(result, "pip install 'mfhca[cluster]'")


@pytest.fixture
def unit(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unit:
    """One unit of a run that is not trained."""
    units: list[Unit] = []
    monkeypatch.setattr(queue, "train", lambda found, *_: units.extend(found))
    wanted = request(finished, settings={"train.epochs": "1"}, out=tmp_path / "run", folds=("s0",))
    with pytest.raises(MfhcaError):
        cross_validate(wanted)
    return units[0]


def test_a_worker_waits_for_one_that_lets_go(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfhca_train.training.unit.LOCK_PATIENCE_SECONDS", 0.05)
    entered = threading.Event()

    def hold() -> None:
        with lock(unit.folder.with_name(f".{unit.folder.name}.lock"), "x"):
            entered.set()
            time.sleep(0.5)

    threading.Thread(target=hold).start()
    entered.wait()
    queue._run_on_worker((unit, queue.environment("cpu")))
    assert unit.finished


def test_workers_must_have_the_same_versions(unit: Unit) -> None:
    expected = queue.environment("cpu")
    expected["versions"] = {**expected["versions"], "torch": "1.0"}
    with pytest.raises(MfhcaError, match=r"has torch .*, another worker 1.0; install and set the same"):
        queue._run_on_worker((unit, expected))


def test_a_file_that_does_not_appear_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "VISIBLE_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.05)
    with pytest.raises(MfhcaError, match="x: was written by a worker but is not visible here"):
        cluster.await_file(tmp_path / "none/x")


def test_a_worker_loads_the_encoder_once_and_only_the_right_one(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    real = distribute.Encoder
    monkeypatch.setattr(distribute, "Encoder", lambda *a: loaded.append(a) or real(*a))
    monkeypatch.setattr(builder, "Encoder", None)
    distribute._cached_encoder.cache_clear()

    def one_by_one(_: Cluster, function: Callable, items: list, __: Callable) -> Iterator[tuple]:
        for item in items:
            yield item, function(item)

    monkeypatch.setattr(distribute, "results", one_by_one)
    more = ("--threads", "1", "--backend", "dask", "--scheduler", "x")
    hashed: list[object] = []
    of_file = checkpoint.weights_digest
    monkeypatch.setattr(backbone, "weights_digest", lambda files: hashed.append(files) or of_file(files))
    assert "18 segments" in features(corpus, tmp_path / "cache", *more).stdout
    assert len(loaded) == 1
    assert len(hashed) == 2  # by the command, and by the worker when it has loaded the files
    assert recorded(tmp_path / "cache") == recorded(corpus / "cache")

    distribute._cached_encoder.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(
            encoder, "resolve", lambda name: replace(backbone.resolve(name), weights_sha256="0" * 64)
        )
        refused(
            features(corpus, tmp_path / "fresh", *more),
            "its files are not those that this run began with; run the command again, on a cluster with a folder",
        )
    task = distribute._Task
    monkeypatch.setattr(
        distribute,
        "_Task",
        lambda *a: replace(made := task(*a), backbone=replace(made.backbone, folder=tmp_path / "nowhere")),
    )
    refused(
        features(corpus, tmp_path / "fresh", *more), f"backbone {tmp_path / 'nowhere'}: no such folder on"
    )
    distribute._cached_encoder.cache_clear()
