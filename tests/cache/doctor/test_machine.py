"""The doctor: what is sound is ok, what is missing is named with its remedy, and the exit code says it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from audio_factory import manifest_of, write_audio, write_corpus
from click.testing import CliRunner, Result
from huggingface_hub import constants

from mfhca_cache.cli import main
from mfhca_cache.common import hardware
from mfhca_cache.corpora import demo_encoder
from mfhca_cache.doctor import machine
from mfhca_cache.doctor.machine import MISSING, OK, WARN, Finding
from mfhca_cache.manifest.manifest import Utterance

LINE = re.compile(r"(ok|warn|missing): \S.*")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with audio/, hubert/, rows.csv and a cache of spectrograms. Not to be changed."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = write_corpus(folder / "audio")
    write_audio(folder / "audio/d/d1.wav", "d1")
    manifest_of(folder / "rows.csv", [*rows, Utterance("d1", "d/d1.wav", "d", "anger")])
    (folder / "hubert").mkdir()
    demo_encoder.write(folder / "hubert")
    places = [str(folder / "rows.csv"), "--root", str(folder / "audio"), "--cache", str(folder / "cache")]
    assert CliRunner().invoke(main, ["features", *places, "--kind", "logspec"]).exit_code == 0
    return folder


def ask(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, ["doctor", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def of_corpus(folder: Path, **changes: str | Path) -> list[str | Path]:
    told: dict[str, str | Path] = {"root": folder / "audio", "cache": folder / "cache", **changes}
    return [folder / "rows.csv", *(part for name, value in told.items() for part in (f"--{name}", value))]


def test_a_sound_machine_is_told_so_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = ask()
    assert result.exit_code == 0, result.output
    *lines, last = result.stdout.splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    assert last == "everything required is available"
    for words in (
        "ok: Python 3.",
        " torch 2",
        "file locks work in",
        "HDF5 can write, lock and read",
        "device ",
    ):
        assert words in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_corpus_with_all_its_features_is_ready(corpus: Path) -> None:
    result = ask(*of_corpus(corpus, kind="logspec"))
    assert result.exit_code == 0, result.output
    assert "8 utterances, 8 in label set all (anger, joy), 4 speakers" in result.stdout
    assert "the audio files of 8 utterances exist" in result.stdout
    assert "4 of 4 speakers have logspec features" in result.stdout


def test_features_that_are_missing_come_with_their_command_and_their_size(corpus: Path) -> None:
    result = ask(*of_corpus(corpus, backbone=corpus / "hubert"))
    assert result.exit_code == 1
    assert (
        f"missing: {corpus / 'cache'}: 0 of 4 speakers have ssl features; mfhca-cache features {corpus / 'rows.csv'} "
        f"--root {corpus / 'audio'} --cache {corpus / 'cache'} --backbone {corpus / 'hubert'} "
        "--kind logspec --kind ssl" in result.stdout
    )
    assert "about 0.00 GB would be written" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 missing; follow the instructions above, then run doctor again"
    done = CliRunner().invoke(main, [*re.findall(r"mfhca-cache (.*)", result.stdout)[0].split(), "--dry-run"])
    assert done.exit_code == 0, "the command that is proposed is one"


def test_features_made_with_other_options_are_looked_for_with_them(corpus: Path, tmp_path: Path) -> None:
    made = ["--kind", "logspec", "--tail", "overlap", "--minimum-tail", "400", "--dtype", "float32"]
    places = of_corpus(corpus, cache=tmp_path / "cache")
    assert CliRunner().invoke(main, ["features", *map(str, places), *made]).exit_code == 0
    result = ask(*places, *made)
    assert result.exit_code == 0, result.output
    assert "4 of 4 speakers have logspec features" in result.stdout
    result = ask(*places, *made[:-2])
    assert result.exit_code == 1
    assert "0 of 4 speakers have logspec features (logspec-" in result.stdout
    assert result.stdout.count("--kind logspec --tail overlap --minimum-tail 400\n") == 1
    result = ask(*places, "--kind", "logspec", "--layer", "6")
    assert result.exit_code == 2
    assert "--layer has no effect without --kind ssl" in result.stderr


def test_audio_that_is_missing_or_elsewhere_is_named(corpus: Path, tmp_path: Path) -> None:
    result = ask(*of_corpus(corpus, root=tmp_path, kind="logspec"))
    assert (
        f"missing: {tmp_path}: 8 of 8 audio files are missing, the first is a/a1.wav; check --root"
        in result.stdout
    )
    result = ask(*of_corpus(corpus, root=tmp_path / "none", kind="logspec"))
    assert f"missing: {tmp_path / 'none'}: no such folder; pass the corpus folder as --root" in result.stdout
    assert result.exit_code == 1


def test_q_tells_only_what_is_not_sound(corpus: Path) -> None:
    result = ask("-q", *of_corpus(corpus, kind="logspec", root=corpus / "none"))
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:-1]] == ["missing"]


def test_a_manifest_or_label_set_that_is_not_there_is_missing(corpus: Path, tmp_path: Path) -> None:
    result = ask(tmp_path / "none.csv")
    assert result.exit_code == 1
    assert "none.csv: no such manifest; `mfhca-cache manifest CORPUS" in result.stdout
    assert "no label set 'nine'" in ask(corpus / "rows.csv", "--label-set", "nine").stdout


def test_an_encoder_that_is_not_here_is_missing_offline(corpus: Path) -> None:
    result = ask(*of_corpus(corpus, backbone="some/where"))
    assert result.exit_code == 1
    assert "encoder some/where: neither a folder nor in the hub's cache" in result.stdout
    assert "download it on another machine and pass its folder" in result.stdout


def test_a_folder_that_cannot_be_written_is_missing() -> None:
    result = ask("--cache", "/proc/nowhere")
    assert result.exit_code == 1
    assert "missing: /proc: cannot be written" in result.stdout
    assert "choose a --cache on another disk" in result.stdout


def test_more_features_than_the_disk_has_room_for_are_refused(tmp_path: Path) -> None:
    hours = [
        Utterance(f"a{n}", f"a/a{n}.wav", "abcd"[n], "anger", samples=10**14, sample_rate=16_000)
        for n in range(4)
    ]
    manifest_of(tmp_path / "long.csv", [*hours[:3], Utterance("x", "b/b1.wav", "d", "joy")])
    result = ask(tmp_path / "long.csv", "--cache", tmp_path / "cache", "--kind", "logspec")
    assert re.search(
        r"missing: \d+\.\d GB would be written, \d+\.\d GB are free; free disk space", result.stdout
    )


def test_old_and_absent_packages_are_missing() -> None:
    assert machine._problem("numpy", "1.26") is None
    assert re.fullmatch(r"numpy \S+, at least 999\.1 is required", machine._problem("numpy", "999.1") or "")
    assert machine._problem("no-such-package", "1") == "package no-such-package is not installed"


def test_the_least_versions_are_those_of_the_project() -> None:
    """All that pyproject.toml names as needed is asked for."""
    import tomllib

    from places import REPOSITORY

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    told = [str(finding) for finding in machine.check_packages()]
    for text in project["dependencies"]:
        assert any(re.search(rf"\b{text.partition('>=')[0]} \d", line) for line in told), text


@pytest.fixture
def port() -> Iterator[int]:
    """One that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_hub_is_asked_unless_told_not_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (told,) = machine.check_hub()
    assert told.state == OK
    assert told.summary.startswith("HF_HUB_OFFLINE is set")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    assert list(machine.check_hub()) == [Finding(OK, "hub 127.0.0.1 can be reached")]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        (told,) = machine.check_hub()
    assert told.state == WARN
    assert "Connection refused" in told.summary
    assert told.remedy.startswith("pass --backbone a folder")


@pytest.mark.parametrize("flags", ["fpu avx2", "fpu avx512_bf16", None])
def test_what_bfloat16_means_here_is_said(flags: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def line_of(file: str, *names: str) -> str:
        return (flags or "") if "flags" in names else real(file, *names)

    real = hardware._read_field
    monkeypatch.setattr(hardware, "_read_field", line_of)
    told = " ".join(str(finding) for finding in machine.check_processor())
    assert ("has no bfloat16 units" in told) == (flags == "fpu avx2")
    assert ("the processor has bfloat16 units" in told) == (flags == "fpu avx512_bf16")


def test_locks_that_exclude_nobody_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine._check_locks(tmp_path, tmp_path).state == OK
    monkeypatch.setattr(machine, "TRY_LOCK", "")  # as on a file system where a second lock succeeds
    assert machine._check_locks(tmp_path, tmp_path).state == WARN


def test_hdf5_on_a_file_system_that_fails_is_missing() -> None:
    assert machine._check_hdf5(Path("/proc"), Path("/proc")).state == MISSING
