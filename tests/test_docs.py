"""The pages in docs/ name only what exists, their examples run, and the site builds."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from audio_factory import write_audio
from click.testing import CliRunner
from corpus_factory import request
from pages import COMMANDS, DOCS, SECONDS, block, blocks, commands_in, python, run, shell
from places import REPOSITORY
from run_factory import leave_out_pictures, make_run
from shard_factory import flip, recipe_folder

from mfhca_cache.common.hardware import VARIABLES
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.runs.grid import read_grid

PACKAGES = ("mfhca_cache", "mfhca_train")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with corpus.csv and cache/, as the page "From Python" has it."""
    request(tmp_path)
    for name in ("anna_1", "ben_1"):
        write_audio(tmp_path / f"data/joy/{name}.wav", name)
    return tmp_path


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_fenced_block_is_marked(page: str) -> None:
    """A block that nobody runs would rot."""
    text = (DOCS / page).read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(list(blocks(page)))


@pytest.mark.parametrize("name", [name for what, name, _ in blocks("python.md") if what == "test"])
def test_examples_in_python_run(small: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "run":  # the example before it makes the run
        python(small, block("python.md", "test", "cv"), capsys)
    printed = python(small, block("python.md", "test", name), capsys)
    expected = {
        "compute": "2 (300, 200) True ()\nlogspec-",
        "manifest": "s0_0 s0 anger",
        "write": "('anger', 'joy') True",
        "folds": "s0 test: ('s0',) validation: ('s1', 's2') train: ('s3',",
        "features": "(2, 12, 32) float32 (32,)",
        "cv": "fold s0, epoch 1: validation UA 0.",
        "run": "s3    6",
        "scores": "0.6666666666666666 0.75 (0.5, 1.0, None)",
        "network": "torch.Size([2, 4]) torch.Size([2, 149])",
    }
    assert expected.get(name, "") in printed


@pytest.mark.parametrize("name", [name for _, name, _ in blocks("own-model.md") if name != "lightning"])
def test_examples_with_a_model_of_ones_own_run(
    small: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = python(small, block("own-model.md", "test", name), capsys)
    if name == "folds":
        assert printed == "".join(f"s{fold} 9 18 9\n" for fold in range(4))
    else:
        found = float(re.findall(r"UA (\d\.\d\d)", printed)[-1])
        assert found > 0.25 + 0.2, "better than chance"


def test_the_example_with_lightning_runs(small: Path) -> None:
    pytest.importorskip("pytorch_lightning", reason="pytorch-lightning is not installed")
    printed = run([sys.executable, "-W", "ignore", "-c", block("own-model.md", "test", "lightning")], small)
    assert float(printed.rpartition(" ")[2]) > 0.25 + 0.2, "better than chance"


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
    (command,) = commands_in("docs/cache-format.md")
    read = [sys.executable, *shlex.split(command)[1:-2], str(shard), "08c"]
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
    assert first == b"mfhca-shard 3"
    assert third.decode() == hashlib.sha256(first + b"\n" + second + b"\n").hexdigest()
    assert rest == bytes(len(rest))
    seal = json.loads(second)
    start, length = seal["features_offset"], seal["features_bytes"]
    assert list(seal) == ["features_bytes", "features_offset", "rest_sha256", "size"]
    assert seal["size"] == len(data)
    assert seal["rest_sha256"] == hashlib.sha256(data[4096:start] + data[start + length :]).hexdigest()
    assert data[4096:4104] == b"\x89HDF\r\n\x1a\n"


def test_the_page_lists_the_variables_that_are_recorded() -> None:
    lines = (DOCS / "how-it-works.md").read_text().splitlines()
    listed = [re.findall(r"`(\w+)`", line) for line in lines if line.endswith("` |")]
    assert listed == [list(names) for names in VARIABLES.values()]


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


def test_settings_commands_and_files_that_the_pages_name_exist() -> None:
    from mfhca_train.config.settings import Config

    config = {"model": vars(Config().model), "train": vars(Config().train)}
    for page in DOCS.glob("*.md"):
        text = re.sub(r"```python\n.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for group, name in re.findall(r"(?<![.\w])(model|train)\.([a-z_]+)\b", text):
            assert name in {*config[group], "py", "safetensors", "md"}, f"{page.name}: {group}.{name}"
        for path in re.findall(r"`((?:mfhca_\w+|tests|bench|manifests)/[\w./-]+\.\w+)`", text):
            placeholder = re.search(r"\b(?:CORPUS|NAME)\b", path)
            assert placeholder or (REPOSITORY / path).exists(), f"{page.name}: {path}"


def test_tables_for_a_paper_and_comparisons_are_written_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_pictures(monkeypatch)
    make_run(tmp_path / "runs/small")
    make_run(tmp_path / "runs/large", settings={"train.lr": "1e-3"})
    shell(tmp_path, block("report.md", "shell", "paper"))
    assert (tmp_path / "figures/captions.md").exists()
    assert {path.name for path in (tmp_path / "runs/small").glob("scores.*")} == {"scores.tex", "scores.csv"}
    said = shell(tmp_path, block("report.md", "shell", "compare"))
    assert "train.lr: 1e-05 | 0.001" in said
    assert {path.suffix for path in (tmp_path / "runs").glob("comparison.*")} == {".html", ".md", ".tex"}


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
        ("mfhca-cache", ["doctor", "features", "status", "import", "export"]),
        ("mfhca-train", ["cv", "ablate", "report", "compare", "runs", "predict", "export", "evaluate"]),
    ],
)
def test_examples_in_the_help_can_be_typed(program: str, names: list[str]) -> None:
    """They are parsed, not run: their corpora are not here."""
    for name in names:
        done = CliRunner().invoke(COMMANDS[program], [name, "--help"])
        (example,) = re.findall(rf"For\s+example:\s+({program} {name} (?:.*\\\n)*.*)\n", done.output)
        arguments = shlex.split(example.replace("\\\n", " "))[2:]
        command = COMMANDS[program].commands[name]
        with command.make_context(name, arguments) as context:
            assert context.params, name


def test_errors_that_the_first_hour_explains_are_printed_somewhere() -> None:
    """What is filled in is written `...`, N, M, a number or nan on the page."""
    page = (DOCS / "first-hour.md").read_text(encoding="utf-8").partition("## Common errors")[2]
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(quoted) > 10
    printed = list(messages())
    for text in quoted:
        fragments = re.split(r"\.\.\.|\b(?:[NM]|nan|\d+)\b", text)
        wanted = re.compile(".+".join(map(re.escape, fragments)), re.DOTALL)
        assert any(wanted.search(message) for message in printed), f"nothing prints: {text}"


def test_the_first_page_links_every_other() -> None:
    first = (DOCS / "index.md").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f"({page.name})" not in first] == ["index.md"]


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
