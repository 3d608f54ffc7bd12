"""Ctrl-C at any moment after the start is one line, never a traceback."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mfhca_cache.common.start import start


def test_an_interruption_while_modules_are_imported_is_one_line() -> None:
    script = (
        "import sys, types; from mfhca_cache.common.start import start\n"
        "module = types.ModuleType('slow'); exec('def main(_): raise KeyboardInterrupt', module.__dict__)\n"
        "sys.modules['slow'] = module; start('slow')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted; run the same command again to resume\n"


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_output_ends_no_command(closed: int) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m mfhca_train config {closed}>&-', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_with_all_streams_closed_any_text_can_be_written_and_no_file_gets_the_number_of_a_stream(
    tmp_path: Path,
) -> None:
    script = (
        "import sys, types; from mfhca_cache.common.start import start\n"
        "module = types.ModuleType('command')\n"
        "def main(_):\n"
        "    print('\\u4eba\\udcff', file=sys.stderr); print('\\u4eba')\n"
        "    file = open(sys.argv[1], 'w'); print(file.fileno(), file=file)\n"
        "module.main = main; sys.modules['command'] = module; start('command')"
    )
    closed = 'exec "$0" -c "$1" "$2" <&- >&- 2>&-'
    environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = ["sh", "-c", closed, sys.executable, script, str(tmp_path / "file")]
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert int((tmp_path / "file").read_text()) > 2


@pytest.mark.parametrize("module", ["mfhca_cache", "mfhca_train"])
def test_an_interrupted_start_prints_no_traceback(module: str) -> None:
    code = (
        "import signal, sys; from mfhca_cache.common.start import start; "
        "signal.signal(signal.SIGINT, signal.SIG_DFL); print('ready', flush=True); "  # as __main__ does
        f"sys.argv[1:] = ['doctor']; start('{module}.cli' + ('.main' if '{module}' == 'mfhca_train' else ''))"
    )
    for late in (0.0, 0.1, 0.3):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(late)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        assert "Traceback" not in error, (late, error)


@pytest.mark.parametrize("module", ["mfhca_cache", "mfhca_train"])
def test_an_interruption_before_anything_is_imported_prints_no_traceback(module: str) -> None:
    code = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would ignore it
class Interrupting:
    def find_spec(self, name, *_):
        if name == "mfhca_cache.common.start":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from {module}.__main__ import main
main(["--version"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


CLOCKED = """
import sys, time
from mfhca_cache.common import start
start.FIRST_SECONDS, start.TICK_SECONDS = 0.1, 0.02
with start.clock(["/bin/mfhca-cache", "status", *sys.argv[1:]]):
    time.sleep(0.4)
    print("first", file=sys.stderr if "err" in sys.argv else sys.stdout, flush=True)
    time.sleep(0.3)
print(type(sys.stdout).__name__, type(sys.stderr).__name__)
"""


def on_terminal(*arguments: str) -> str:
    """What a script writes to a terminal."""
    parent, child = pty.openpty()
    subprocess.run([sys.executable, "-c", CLOCKED, *arguments], stdout=child, stderr=child, check=True)
    written = os.read(parent, 65536).decode()
    os.close(parent)
    os.close(child)
    return written


@pytest.mark.parametrize("stream", ["out", "err"])
def test_a_clock_ticks_until_something_is_written(stream: str) -> None:
    clock, _, after = on_terminal(stream).partition("\r\x1b[K")
    assert len(re.findall(r"\rmfhca-cache status: 0 s", clock)) > 3
    assert after.split() == ["first", "TextIOWrapper", "TextIOWrapper"]


def test_the_clock_is_for_terminals_and_not_with_q(capfd: pytest.CaptureFixture[str]) -> None:
    assert on_terminal("-q").split() == ["first", "TextIOWrapper", "TextIOWrapper"]
    subprocess.run([sys.executable, "-c", CLOCKED], check=True)
    assert capfd.readouterr().err == ""


def test_a_command_that_ends_with_a_code_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mfhca-cache", "--version"])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit, match=r"^0$"):
        start("mfhca_cache.cli")
    assert signal.getsignal(signal.SIGINT) is before
