"""log.txt and the terminal: which messages go where, also those of workers and of unexpected errors."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from mfhca_cache.common import log
from mfhca_cache.common.console import Commands
from mfhca_cache.common.errors import MfhcaError

EVENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4} \S")


@click.group(cls=Commands)
def group() -> None:
    """A group like the two commands."""


@group.command()
@click.option("--out", type=click.Path(path_type=Path))
@click.option("--cache", type=click.Path(path_type=Path))
@click.option("--do", default="")
def act(out: Path | None, cache: Path | None, do: str) -> None:  # noqa: ARG001
    """Says something of each level, then does what it is told."""
    log.LOG.debug("detail")
    if "log" in do and out is not None:
        with log.to(out / log.FILE):
            log.LOG.debug("within")
    log.LOG.info("note")
    log.LOG.warning("careful")
    warnings.warn("from a library", UserWarning, stacklevel=1)
    click.echo("result")
    if "foreseen" in do:
        raise MfhcaError("x.csv: wrong; mend it")
    if "bug" in do:
        raise ZeroDivisionError("in the depths")
    if "stop" in do:
        raise KeyboardInterrupt


def call(*arguments: str) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        return CliRunner().invoke(group, arguments)


def test_the_terminal_is_told_notes_and_warnings_details_with_v_and_nothing_with_q() -> None:
    assert call("act").stderr.splitlines()[:2] == ["note", "warning: careful"]
    assert "warning: from a library (UserWarning, " in call("act").stderr
    for arguments in (["-q", "act"], ["act", "-q"], ["act", "--quiet"]):
        quiet = call(*arguments)
        assert (quiet.stderr, quiet.stdout) == ("", "result\n")
    for arguments in (["-v", "act"], ["act", "-v"]):
        assert "detail" in call(*arguments).stderr
    for arguments in (["-q", "act", "-v"], ["act", "-q", "-v"]):
        both = call(*arguments)
        assert both.exit_code == 2
        assert "-q and -v cannot be used together" in both.stderr


def test_errors_are_told_even_with_q() -> None:
    result = call("act", "-q", "--do", "foreseen")
    assert (result.exit_code, result.stderr) == (1, "error: x.csv: wrong; mend it\n")


def test_the_log_holds_every_level_from_the_start_of_the_command_and_is_appended(tmp_path: Path) -> None:
    for _ in range(2):
        assert call("act", "-q", "--do", "log foreseen", "--out", str(tmp_path)).exit_code == 1
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert all(EVENT.match(line) for line in lines)
    said = [line.split(" ", 2)[2] for line in lines]
    half = said[: len(said) // 2]
    assert said == [*half, *half]
    assert half[0] == f"started: group act -q --do 'log foreseen' --out {tmp_path}"
    assert half[1].startswith("mfhca ")
    assert half[2:6] == ["detail", "within", "note", "warning: careful"]
    assert half[6].startswith("warning: from a library (UserWarning, ")
    assert half[7:] == ["error: x.csv: wrong; mend it"]


def bug_log(result: Result) -> str:
    """The log that the terminal names, after checking what it says."""
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    line = result.stderr.splitlines()[-1]
    found = re.fullmatch(
        r"error: unexpected error \(ZeroDivisionError: in the depths\); please report it with the "
        r"traceback, which is in (\S+)",
        line,
    )
    assert found is not None, line
    return found[1]


def test_a_bug_goes_to_the_log_of_the_run(tmp_path: Path) -> None:
    where = bug_log(call("act", "--do", "log bug", "--out", str(tmp_path)))
    assert where == str(tmp_path / "log.txt")
    text = Path(where).read_text()
    assert 'raise ZeroDivisionError("in the depths")' in text
    assert "\n    Traceback (most recent call last):\n" in text


def test_a_bug_before_the_run_has_a_log_goes_to_the_run_else_the_cache_else_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    out, cache = tmp_path / "out", tmp_path / "cache"
    arguments = ("act", "--do", "bug", "--out", str(out), "--cache", str(cache))
    assert Path(bug_log(call(*arguments))).parent == tmp_path / "tmp"
    cache.mkdir()
    assert bug_log(call(*arguments)) == str(cache / "log.txt")
    out.mkdir()
    assert bug_log(call(*arguments)) == str(out / "log.txt")
    assert "started: group act" in (out / "log.txt").read_text()


def test_v_shows_the_traceback_on_the_terminal_too(tmp_path: Path) -> None:
    result = call("act", "-v", "--do", "bug", "--out", str(tmp_path))
    assert "Traceback (most recent call last)" in result.stderr


def test_an_interruption_is_noted(tmp_path: Path) -> None:
    result = call("act", "--do", "log stop", "--out", str(tmp_path))
    assert result.exit_code == 130
    assert "interrupted; run the same command again" in (tmp_path / "log.txt").read_text()


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "log.txt").mkdir()
    result = call("act", "--do", "log", "--out", str(tmp_path))
    assert result.exit_code == 0
    assert "log.txt: cannot be written" in result.stderr
    with log.command(log.QUIET), log.to(Path("/dev/full")):
        log.LOG.warning("lost")


def test_nothing_stays_behind_after_a_command(tmp_path: Path) -> None:
    show = warnings.showwarning
    for do in ("log", "log bug", "log foreseen", "bug"):
        call("act", "--do", do, "--out", str(tmp_path))
    assert log.LOG.handlers == []
    assert log.LOG.propagate
    assert warnings.showwarning is show
    assert log.path() is None


def warn_in_worker(path: Path | None, level: int) -> None:
    with log.worker(path, level):
        warnings.warn("a worker's warning", RuntimeWarning, stacklevel=1)
        log.LOG.debug("a worker's detail")


def test_what_a_worker_process_says_is_in_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from joblib import Parallel, delayed

    with log.command(log.USUAL), log.to(tmp_path / "log.txt"):
        Parallel(n_jobs=2, backend="loky")(delayed(warn_in_worker)(log.path(), log.level()) for _ in range(3))
    lines = (tmp_path / "log.txt").read_text().splitlines()
    # Python itself tells the same warning once a process.
    assert sum("warning: a worker's warning (RuntimeWarning, " in line for line in lines) in (1, 2)
    assert sum("a worker's detail" in line for line in lines) == 3
    assert "a worker's warning" in capfd.readouterr().err


def test_what_was_kept_elsewhere_can_be_sent_and_said_here(tmp_path: Path) -> None:
    import pickle

    with log.collect() as records:
        log.LOG.warning("from %s", Path("far"))
        log.LOG.debug("detail")
    with log.command(log.QUIET), log.to(tmp_path / "log.txt"):
        log.replay(pickle.loads(pickle.dumps(records)))
    assert [line.split(" ", 2)[2] for line in (tmp_path / "log.txt").read_text().splitlines()] == [
        "warning: from far",
        "detail",
    ]


def test_without_a_command_the_usual_handlers_of_python_hear_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), log.phase("something"):
        pass
    assert re.fullmatch(r"something: \d+\.\d\d s", caplog.messages[-1])
