"""Every command that README and docs/ show in indented code runs, on short recordings and with a small encoder.

Commands in marked blocks are run by the tests of their pages.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from backbone_factory import save_model
from click.testing import CliRunner
from pages import COMMANDS, DOCS, commands_in, make, shell
from places import REPOSITORY
from run_factory import leave_out_pictures

PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in DOCS.glob("*.md"))]
ELSEWHERE = ("docs/cache-format.md", "docs/new-fusion.md")  # in test_docs.py and test_tutorials.py
NOT_HERE = {  # why these do not run here; they are parsed
    r"make( PYTHON=\S+)? install|(python -m build && )?pip install .*|python3 -m venv .*|pip install torch .*": (
        "packages are downloaded; `make acceptance` installs them"
    ),
    r"make .*CORPUS=(iemocap|emodb|ravdess|crema-d) .*|.*manifest CORPUS .*": "needs a corpus with a licence",
    r"dask .*|.*--backend dask .*": "needs a second machine; tests/cache/common/test_cluster.py has one instead",
}
TINY = ("train.epochs=1", "model.grf_channels=4", "model.width=16")
QUICK = (*(part for setting in TINY for part in ("--set", setting)), "--no-analysis", "--fold", "anna")


def runs_here(command: str) -> bool:
    return not any(re.fullmatch(pattern, command) for pattern in NOT_HERE)


def record(folder: Path, *emotions: str) -> None:
    """A short recording of each of four speakers with each emotion."""
    rng = np.random.default_rng(len(folder.name))
    for emotion in emotions:
        (folder / emotion).mkdir(parents=True)
        for speaker in ("anna", "ben", "carla", "dora"):
            soundfile.write(folder / f"{emotion}/{speaker}_01.wav", rng.normal(0, 0.1, 8000), 16000)


def typed(folder: Path, command: str) -> str:
    """What a command prints. /data lies in the folder, one fold is trained for one epoch."""
    command = command.replace("/data/", "data/")
    if command.startswith("eval"):
        return completed(command)
    if command.startswith("make"):
        command = make(folder, command)
    row = ("--row", "oracle") if "protocols.toml" in command else ()
    return shell(folder, command, (*QUICK, *row))


def completed(command: str) -> str:
    """What bash completes after `eval`; the program that writes its functions runs in this process."""
    (variable, kind, program) = re.findall(r"\$\((\w+)=(\w+) ([\w-]+)\)", command)[0]
    script = CliRunner().invoke(COMMANDS[program], prog_name=program, env={variable: kind}).output
    done = subprocess.run(["bash"], input=f"{script}\ncomplete -p {program}", capture_output=True, text=True)
    return done.stdout


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, encoders, features and a run, under the names of the pages."""
    folder = tmp_path_factory.mktemp("scene")
    record(folder / "data/mine", "happiness", "sadness")
    record(folder / "data/other", "hap", "fea")
    (folder / "recordings").mkdir()
    for name in ("call.wav", "call.mp3", "recordings/a.flac"):
        soundfile.write(folder / name, np.random.default_rng(1).normal(0, 0.1, 60_000), 16000)
    save_model(folder / "facebook/hubert-base-ls960", "HubertModel", num_hidden_layers=6)
    save_model(folder / "microsoft/wavlm-base-plus", "WavLMModel")
    with pytest.MonkeyPatch.context() as patch:
        leave_out_pictures(patch)
        manifest, features, cv, *_ = [line for line in commands_in("README.md") if line.startswith("mfhca")]
        for command in (manifest, features):
            typed(folder, command)
            typed(folder, re.sub(r"\b(?:mine|my)\b", "other", command))
        typed(folder, cv.replace("runs/mine", "runs/emodb"))
    shutil.copy(folder / "my.csv", folder / "mine.csv")
    # For the demo of make stand the same recordings.
    shutil.copytree(folder / "data/mine", folder / "data/demo")
    shutil.copytree(folder / "facebook/hubert-base-ls960", folder / "data/demo/hubert-demo")
    (folder / "manifests").mkdir()
    shutil.copy(folder / "my.csv", folder / "manifests/demo.csv")
    (folder / "manifests/ablations").symlink_to(REPOSITORY / "manifests/ablations")
    return folder


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p not in ELSEWHERE and any(map(runs_here, commands_in(p)))]
)
def test_commands_that_a_page_shows_run(
    page: str, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_pictures(monkeypatch)
    shutil.copytree(scene, tmp_path, symlinks=True, dirs_exist_ok=True)
    for command in filter(runs_here, commands_in(page)):
        assert typed(tmp_path, command), command


@pytest.mark.parametrize("pattern", NOT_HERE)
def test_commands_that_cannot_run_here_can_be_typed(pattern: str) -> None:
    """They are parsed, and make says what it would do."""
    commands = [line for page in PAGES for line in commands_in(page) if re.fullmatch(pattern, line)]
    assert commands, "an exception that nothing needs"
    for line in commands:
        program, *arguments = shlex.split(line.replace(" CORPUS ", " emodb "))
        if program == "make":
            subprocess.run(["make", "--dry-run", *arguments], cwd=REPOSITORY, capture_output=True, check=True)
        elif program in COMMANDS:
            command = COMMANDS[program].commands[arguments[0]]
            with command.make_context(arguments[0], arguments[1:]) as context:
                assert context.params, line


def test_commands_within_a_sentence_exist_and_have_these_options() -> None:
    for page in PAGES:
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        for program, name, rest in re.findall(r"`(mfhca-cache|mfhca-train) ([a-z]+)\b([^`|]*)", text):
            command = COMMANDS[program].commands[name]
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            assert set(re.findall(r"(?<=\s)--[\w-]+", rest)) <= known, f"{page}: {program} {name}{rest}"
