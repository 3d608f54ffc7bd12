"""A bar on a terminal changes by itself; without a terminal there are lines; -q shows nothing."""

from __future__ import annotations

import io
import os
import pty
import re
import time

import pytest

from mfhca_cache.common import log
from mfhca_cache.common import progress as module
from mfhca_cache.common.progress import each, is_shown, phase, progress


class Terminal(io.StringIO):
    """Standard error of a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BAR_SECONDS", 0.02)
    monkeypatch.setattr(module, "LINE_SECONDS", 0.05)


@pytest.mark.usefixtures("quick")
def test_a_bar_is_drawn_again_although_no_step_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    assert is_shown()
    texts = iter(range(1000))
    with progress(4, " epochs", "training", 1, lambda: (75.0, f", state {next(texts)}")) as bar:
        bar.update()
        time.sleep(0.3)
    form = re.compile(r"training: +50%.*2/4 epochs \[00:00<01:15, state (\d+)\]")
    drawn = [found[1] for text in terminal.getvalue().split("\r") if (found := form.search(text))]
    assert len(set(drawn)) > 4


@pytest.mark.usefixtures("quick")
def test_a_terminal_whose_width_is_unknown_shows_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new pseudo-terminal has 0 columns, as those of some containers."""
    reader, writer = pty.openpty()
    with open(reader, "rb", buffering=0) as master, open(writer, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with progress(4, " files", "reading") as bar:
            bar.update(4)
        os.set_blocking(reader, False)
        assert b"4/4" in b"".join(iter(lambda: master.read(4096), None))


@pytest.mark.usefixtures("quick")
def test_without_a_terminal_lines_come_at_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_shown()
    with progress(4, " files", "reading") as bar:
        bar.update(3)
        for _ in range(1000):
            bar.update(0)  # a step draws nothing
        time.sleep(0.18)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 4
    assert all(re.fullmatch(r"reading: 3/4 files in 00:00, 00:00 left", line) for line in lines)


@pytest.mark.usefixtures("quick")
def test_a_phase_is_a_line_of_its_own_and_in_the_log(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with phase("report.html"):
        time.sleep(0.08)
    assert capsys.readouterr().err.splitlines() == ["report.html: in 00:00"]
    assert re.search(r"report\.html: 0\.\d\d s", caplog.text)


@pytest.mark.usefixtures("quick")
def test_q_silences_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda value=terminal: value)
        with log.command(log.QUIET):
            assert not is_shown()
            for _ in each([1, 2], " items", "counting"):
                time.sleep(0.07)
    assert capsys.readouterr().err == ""
