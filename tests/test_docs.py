"""What the pages in docs/ tell a reader to do is done here, as it stands there.

A comment before a fenced block says what it is: `test` and `shell` blocks are
run, `file` blocks are written, `edit` blocks are applied to a copy of the source.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from corpus_factory import request, write_features
from corpus_factory import utterances as small_utterances
from places import REPOSITORY
from shard_factory import flip, recipe_folder
from voice_factory import trained

from mfhca_cache.cli import main as cache_command
from mfhca_cache.manifest.manifest import read_manifest, write_manifest
from mfhca_train.cli.main import main as train_command
from mfhca_train.config.settings import Config, with_settings
from mfhca_train.runs.grid import read_grid

DOCS = REPOSITORY / "docs"
BLOCK = re.compile(r"<!-- (test|shell|file|edit|grid): ([\w./-]+) -->\n```\w+\n(.*?)```\n", re.DOTALL)
PACKAGES = ("mfhca_cache", "mfhca_train")
SECONDS = 300
COMMANDS = {"mfhca-cache": cache_command, "mfhca-train": train_command}


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """(what, name, text) of every marked block, in the order of the page."""
    yield from BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


def block(page: str, what: str, name: str) -> str:
    (text,) = [text for kind, called, text in blocks(page) if (kind, called) == (what, name)]
    return text


def python(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs an example in this process, in a folder; returns what it printed."""
    with contextlib.chdir(folder):
        exec(compile(text, "example.py", "exec"), {"__name__": "__main__"})
    return capsys.readouterr().out


def shell(folder: Path, text: str, training: tuple[str, ...] = (), exit_code: int = 0) -> str:
    """Runs the commands of a shell block in this process and returns their output.

    `training` is appended to `cv` and `ablate`, which run in a single process.
    """
    printed = ""
    for line in text.replace("\\\n", " ").splitlines():
        name, *arguments = shlex.split(line)
        if arguments[0] in ("cv", "ablate"):
            arguments += ["--jobs", "1", *training]
        with contextlib.chdir(folder):
            done = CliRunner().invoke(COMMANDS[name], arguments)
        assert done.exit_code == exit_code, f"{line}\n{done.output}"
        printed += done.output
    return printed


def run(command: list[str], folder: Path, source: Path = REPOSITORY) -> str:
    """Runs a command that must succeed, with the packages of `source`; returns what it printed."""
    environment = os.environ | {"PYTHONPATH": str(source)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with corpus.csv and cache/, as the page "From Python" has it."""
    request(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_fenced_block_is_marked(page: str) -> None:
    """A block that nobody runs would rot."""
    text = (DOCS / page).read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(list(blocks(page)))


@pytest.mark.parametrize("name", [name for what, name, _ in blocks("python.md") if what == "test"])
def test_examples_in_python_run(small: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = python(small, block("python.md", "test", name), capsys)
    expected = {
        "manifest": "s0_0 s0 anger",
        "write": "('anger', 'joy') True",
        "folds": "s0 tested: ('s0',) validated: ('s1', 's2') trained: ('s3',",
        "features": "(2, 12, 32) float32 (32,)",
        "cv": "0.",
        "scores": "0.6666666666666666 0.75 (0.5, 1.0, None)",
        "network": "torch.Size([2, 4]) torch.Size([2, 149])",
    }
    assert expected.get(name, "") in printed


def test_every_public_name_is_on_the_page_and_no_other() -> None:
    import mfhca_cache
    import mfhca_train

    page = (DOCS / "python.md").read_text(encoding="utf-8")
    for package in (mfhca_cache, mfhca_train):
        (table,) = re.findall(rf"^\| `{package.__name__}` \| \|\n(.*?)(?:\n\n|\Z)", page, re.M | re.S)
        named = re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines()))
        assert sorted(named) == sorted(package.__all__)


def test_the_python_reference_has_every_public_name() -> None:
    import mfhca_cache
    import mfhca_train

    entries = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    packages = (mfhca_cache, mfhca_train)
    assert entries == [f"{package.__name__}.{name}" for package in packages for name in package.__all__]


def test_the_reader_of_twenty_lines_needs_nothing_of_ours_and_sees_what_was_written(tmp_path: Path) -> None:
    text = block("cache-format.md", "test", "reader")
    assert len(text.splitlines()) <= 20
    tops = {
        alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert tops == {"hashlib", "json", "sys", "h5py"}
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    (tmp_path / "reader.py").write_text(text)
    shard = recipe_folder(tmp_path / "cache") / "08.h5"
    read = [sys.executable, "reader.py", str(shard), "08c"]
    printed = run(read, tmp_path, source=tmp_path)
    import h5py

    with h5py.File(shard, "r") as file:
        assert printed.strip() == str(file["features"][2:5])
        offset = file["features"].id.get_offset()
    flip(shard, offset, bits=1)
    done = subprocess.run(read, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "not a shard of this version, or damaged" in done.stderr) == (1, True)


def test_seal_and_key_are_as_the_specification_says(tmp_path: Path) -> None:
    """Written from the page alone, without a function of the package."""
    folder = recipe_folder(tmp_path)
    about = json.loads((folder / "recipe.json").read_text())
    canonical = json.dumps(about["recipe"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    key = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    assert folder.name == f"{about['name']}-{key}"
    assert (about["format"], about["frame_shape"]) == ("mfhca-recipe", [4, 3])
    # "take the number's text as it stands in recipe.json": without parsing a single number
    for name, value in re.findall(r'^  "(\w+)": (-?[\d.e-]+),?$', (folder / "recipe.json").read_text(), re.M):
        assert f'"{name}":{value}' in canonical

    data = (folder / "03.h5").read_bytes()
    first, second, third, rest = data[:4096].split(b"\n", 3)
    assert first == b"mfhca-shard 1"
    assert third.decode() == hashlib.sha256(first + b"\n" + second + b"\n").hexdigest()
    assert rest == bytes(len(rest))
    seal = json.loads(second)
    start, length = seal["features_offset"], seal["features_bytes"]
    assert list(seal) == ["features_bytes", "features_offset", "rest_sha256", "size"]
    assert seal["size"] == len(data)
    assert seal["rest_sha256"] == hashlib.sha256(data[4096:start] + data[start + length :]).hexdigest()
    assert data[4096:4104] == b"\x89HDF\r\n\x1a\n"


def test_the_specification_names_every_dataset_and_attribute() -> None:
    from mfhca_cache.store import schema

    page = (DOCS / "cache-format.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w/]+)`(?:, `\w+`)? \| ([^|]*) \|", page, re.MULTILINE))
    for name, dtype in schema.TABLES.items():
        assert rows[name] == dtype.name
    for name in (schema.FEATURES, schema.UTTERANCE_IDS, schema.AUDIO_SHA256, *schema.ATTRIBUTES, "version"):
        assert f"`{name}`" in page
    assert f"{schema.FORMAT} {schema.VERSION}" in page
    assert rows["version"].startswith(str(schema.VERSION))


def test_your_own_corpus_from_recordings_to_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's manifest, card and commands, on eight seconds of noise."""
    rng = np.random.default_rng(0)
    for speaker in ("anna", "ben", "carla", "dora"):
        folder = tmp_path / "data/mine" / speaker
        folder.mkdir(parents=True)
        for number, label in enumerate(("happy", "excited", "sad", "bored"), start=1):
            with wave.open(str(folder / f"{number:03}_{label}.wav"), "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", ""))
                file.writeframes(rng.integers(-9000, 9000, 8000, np.int16).tobytes())
    python(tmp_path, block("your-corpus.md", "test", "manifest"), capsys)
    assert len(read_manifest(tmp_path / "mine.csv").utterances) == 16
    said = shell(tmp_path, block("your-corpus.md", "shell", "features"))
    assert "computed 16 utterances" in said
    (tmp_path / "mine.toml").write_text(block("your-corpus.md", "file", "mine.toml"))
    said = shell(tmp_path, block("your-corpus.md", "shell", "cv"))
    assert "16 utterances" in said
    assert "8 utterances" in said


TINY = ("train.epochs=1", "train.patience=1", "model.grf_channels=4", "model.width=16")
QUICK = tuple(part for setting in TINY for part in ("--set", setting))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder with data/mine, one folder per emotion and four speakers, and a tiny encoder by HuBERT's name."""
    rng = np.random.default_rng(0)
    for label in ("happy", "sad"):
        folder = tmp_path / "data/mine" / label
        folder.mkdir(parents=True)
        for speaker in ("anna", "ben", "carla", "dora"):
            for number in (1, 2):
                noise = rng.normal(0, 0.1, 8000)
                soundfile.write(folder / f"{speaker}_{number:02}.wav", noise, 16000, "PCM_16")
    soundfile.write(tmp_path / "new.wav", rng.normal(0, 0.1, 60000), 16000, "PCM_16")
    (tmp_path / "facebook").mkdir()
    (tmp_path / "facebook/hubert-base-ls960").symlink_to(trained().backbone)
    return tmp_path


def test_the_tutorial_from_recordings_to_a_latex_table(
    recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_block(name: str, exit_code: int = 0) -> str:
        return shell(recordings, block("tutorial.md", "shell", name), QUICK, exit_code)

    run_block("manifest")
    manifest = read_manifest(recordings / "mine.csv")
    assert {u.speaker for u in manifest.utterances} == {"anna", "ben", "carla", "dora"}
    assert "missing" in run_block("doctor", exit_code=1)
    assert "computed 16 utterances" in run_block("features")
    assert "anna" in run_block("first")
    (recordings / "mine-grid.toml").write_text(block("tutorial.md", "grid", "mine-grid.toml"))
    run_block("ablate")
    printed = python(recordings, block("tutorial.md", "test", "table"), capsys)
    rows = [line for line in printed.splitlines() if line.endswith(r"\\") and r"\pm" in line]
    assert [row.split(" & ")[0] for row in rows] == [
        "MFHCA",
        "HuBERT alone",
        "linear SVM",
        "most frequent class",
    ]
    assert [row.endswith(r"-- \\") for row in rows] == [
        True,
        False,
        False,
        False,
    ]  # p of all but the reference
    assert "new.wav" in run_block("predict")
    assert (recordings / "mine-networks/networks.safetensors").is_file()


def test_the_notebook_runs_from_the_demo_corpus_to_predictions(tmp_path: Path) -> None:
    """In a kernel of its own, as Jupyter does it; the scores of the network and of the own model beat chance."""
    program = (
        "import sys, nbformat; from nbclient import NotebookClient\n"
        "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
        "NotebookClient(notebook, timeout=300, resources={'metadata': {'path': sys.argv[2]}}).execute()\n"
        "outputs = [o for cell in notebook.cells for o in cell.get('outputs', [])]\n"
        "print(sum('image/png' in o.get('data', {}) for o in outputs), 'pictures')\n"
        "print(''.join(o.get('text', '') for o in outputs))"
    )
    printed = run([sys.executable, "-c", program, str(DOCS / "tour.ipynb"), str(tmp_path)], tmp_path)
    assert printed.startswith("2 pictures")
    (network, own) = map(float, re.findall(r"\bUA (0\.\d\d)", printed))
    assert network > 0.4
    assert own > 0.5
    assert len(re.findall(r"^\S+1F_\w+\.wav ", printed, re.MULTILINE)) == 4


def test_a_new_ablation_runs_and_goes_on(tmp_path: Path) -> None:
    rows = small_utterances()
    (tmp_path / "manifests").mkdir()
    write_manifest(tmp_path / "manifests/demo.csv", rows)
    shutil.copy(REPOSITORY / "manifests/demo.toml", tmp_path / "manifests")
    (tmp_path / "manifests/demo.toml").write_text(
        (tmp_path / "manifests/demo.toml")
        .read_text()
        .replace("happiness", "joy")
        .replace("sadness", "sorrow")
    )
    write_features(tmp_path / "cache/demo", rows)
    (tmp_path / "padding.toml").write_text(block("new-ablation.md", "grid", "padding.toml"))
    said = shell(tmp_path, block("new-ablation.md", "shell", "ablate"))
    for title in ("padding kept out", "the most frequent class", "sign-flip test"):
        assert title in said
    again = shell(tmp_path, block("new-ablation.md", "shell", "one"))
    assert "padding kept out" in again


def apply(edit: str, file: Path) -> None:
    """Applies one hunk without line numbers; its old lines must stand in the file exactly once."""
    lines = edit.splitlines()
    old = "\n".join(line[1:] for line in lines if not line.startswith("+"))
    new = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file.name}: the tutorial's edit no longer fits:\n{old}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_a_new_fusion_module_followed_step_by_step(tmp_path: Path) -> None:
    """Edits, the tutorial's own test, a formatter's and linter's view of it, and one epoch of every fold."""
    for package in (*PACKAGES, "manifests"):
        shutil.copytree(
            REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    for what, name, text in blocks("new-fusion.md"):
        if what == "edit":
            apply(text, tmp_path / name)
        elif what in ("file", "grid"):
            (tmp_path / name).write_text(text)
    for command in (["check"], ["format", "--check"]):
        run([sys.executable, "-m", "ruff", *command, "mfhca_train", "tests"], tmp_path, source=tmp_path)
    request(tmp_path)
    arguments = [
        *("cv", "corpus.csv", "--cache", "cache", "--out", "run", "--jobs", "1"),
        *("--set", "model.fusion=gated", "--set", "train.epochs=1", "--set", "model.grf_channels=8"),
    ]
    script = (
        "import pytest; from mfhca_train.cli.main import main\n"
        "assert pytest.main(['-p', 'no:cacheprovider', 'tests/test_gated.py']) == 0\n"
        f"main({arguments})"
    )
    said = run([sys.executable, "-c", script], tmp_path, source=tmp_path)
    assert "3 passed" in said
    assert "headline" in said
    about = json.loads((tmp_path / "run/run.json").read_text())
    assert about["config"]["model"]["fusion"] == "gated"


@pytest.mark.parametrize(
    ("page", "name", "reference"),
    [("new-ablation.md", "padding.toml", "as-speech"), ("layers.md", "layers.toml", "output")],
)
def test_grids_of_the_pages_are_read(page: str, name: str, reference: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(block(page, "grid", name))
    grid = read_grid(tmp_path / name)
    assert grid.reference == reference
    for row in grid.rows:
        with_settings(Config(), row.settings)


def test_examples_of_predicting_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's names stand for a small run of the demo; its first speaker stands for speaker 03."""
    made = trained()
    for name, target in {"runs/emodb": made.run, "facebook/hubert-base-ls960": made.backbone}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(target)
    speaker = made.manifest.utterances[0].speaker
    samples, rate = soundfile.read(made.audio(speaker)[0])
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, samples, rate)
    printed = python(tmp_path, block("predict.md", "test", "predict"), capsys).splitlines()
    assert [line.split()[0] for line in printed] == ["a.wav", "b.flac"]
    assert all(f"'{name}': " in printed[0] for name in made.manifest.label_set().classes)
    text = block("predict.md", "test", "speaker")
    assert 'speaker="03"' in text
    assert python(tmp_path, text.replace('"03"', f'"{speaker}"'), capsys).startswith("1 {")


def test_settings_commands_and_files_that_the_pages_name_exist() -> None:
    from mfhca_train.config.settings import Config

    config = {"model": vars(Config().model), "train": vars(Config().train)}
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for group, name in re.findall(r"(?<![.\w])(model|train)\.([a-z_]+)\b", text):
            assert name in config[group] or name in ("py", "safetensors"), f"{page.name}: {group}.{name}"
        for path in re.findall(r"`((?:mfhca_\w+|tests|bench|manifests)/[\w./-]+\.\w+)`", text):
            placeholder = re.search(r"\b(?:CORPUS|NAME)\b", path)
            assert placeholder or (REPOSITORY / path).exists(), f"{page.name}: {path}"


def commands_in(text: str) -> Iterator[str]:
    """The commands in indented and fenced code, without the shell's comments."""
    code = re.findall(r"^(?: {4}|)((?:\.venv/bin/)?(?:mfhca-|make )(?:.*\\\n)*.*)$", text, re.MULTILINE)
    for command in code:
        command = command.replace("\\\n", " ").replace(" CORPUS ", " emodb ")
        yield re.split(" {2,}#| > ", command)[0].removeprefix(".venv/bin/").strip()


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in DOCS.glob("*.md"))])
def test_commands_that_a_page_shows_can_be_typed(page: str) -> None:
    """They are parsed, and make says what it would do; those in marked blocks are run by the other tests."""
    for line in commands_in((REPOSITORY / page).read_text(encoding="utf-8")):
        program, *arguments = shlex.split(line)
        if program == "make":
            done = subprocess.run(
                ["make", "--dry-run", *arguments], cwd=REPOSITORY, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{page}: {line}\n{done.stderr}"
            continue
        command = COMMANDS[program].commands[arguments[0]]
        with command.make_context(arguments[0], arguments[1:]) as context:
            assert context.params, line


def messages() -> Iterator[str]:
    """The texts in the packages' source but docstrings, `...` where a value is filled in."""
    for path in sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skipped: set[ast.AST] = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)
        }  # docstrings among them
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = node.values
                skipped.update(parts)
                yield "".join(str(p.value) if isinstance(p, ast.Constant) else "..." for p in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
                yield node.value


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("mfhca-cache", ["doctor", "features", "status"]),
        ("mfhca-train", ["cv", "ablate", "predict", "export", "evaluate"]),
    ],
)
def test_examples_in_the_help_can_be_typed(program: str, names: list[str]) -> None:
    """They are parsed, not run: their corpora are not here."""
    for name in names:
        done = CliRunner().invoke(COMMANDS[program], [name, "--help"])
        (example,) = re.findall(rf"For example:\s+({program} {name} (?:.*\\\n)*.*)\n", done.output)
        arguments = shlex.split(example.replace("\\\n", " "))[2:]
        command = COMMANDS[program].commands[name]
        with command.make_context(name, arguments) as context:
            assert context.params, name


def test_errors_that_the_first_hour_explains_are_printed_somewhere() -> None:
    """What is filled in is written `...`, N, M, a number or nan on the page."""
    page = (DOCS / "first-hour.md").read_text(encoding="utf-8").partition("## Errors that come up")[2]
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(quoted) > 10
    printed = list(messages())
    for text in quoted:
        fragments = re.split(r"\.\.\.|\b(?:[NM]|nan|\d+)\b", text)
        wanted = re.compile(".+".join(map(re.escape, fragments)), re.DOTALL)
        assert any(wanted.search(message) for message in printed), f"nothing prints: {text}"


def test_pages_build_and_ask_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    subprocess.run(build, cwd=REPOSITORY, check=True, timeout=SECONDS)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(list(DOCS.glob("*.md")))
    for page in pages:
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text(encoding="utf-8")):
            assert not re.search(r'(?:src|href)="(?:https?:)?//', tag), f"{page.name}: {tag}"
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name
