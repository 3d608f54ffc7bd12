"""The README promises nothing that is not there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY

from mfhca_cache.recipe.kinds import KINDS

sys.path.insert(0, str(REPOSITORY))  # `bench` is no part of the installed package

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_scores_and_measurements_are_what_the_program_writes() -> None:
    from bench.readme import updated

    for path, text in updated().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `python -m bench.readme`"


def test_it_is_short_and_its_picture_small() -> None:
    assert len(README.splitlines()) <= 200
    picture = REPOSITORY / "docs/images/report.png"
    assert f"]({picture.relative_to(REPOSITORY)})" in README
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 150_000


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "manifests/README.md"])
def test_files_that_a_text_links_or_names_exist(name: str) -> None:
    path = REPOSITORY / name
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / target).exists(), target
    for target in re.findall(r"`((?:mfhca_\w+|tests|bench|docs|manifests)/[\w./-]*)`", text):
        assert re.search(r"CORPUS|NAME", target) or (REPOSITORY / target).exists(), target


def test_every_room_is_on_the_map_of_the_code() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for package in ("mfhca_cache", "mfhca_train"):
        rooms = [path.parent.name for path in (REPOSITORY / package).glob("*/__init__.py")]
        assert rooms
        for room in rooms:
            assert f"| `{room}/` |" in text, f"{package}/{room}"


def test_tests_that_the_pages_name_exist() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py"))
    names = [
        name
        for page in (REPOSITORY / "docs").glob("*.md")
        for name in re.findall(r"`(test_\w+)`", page.read_text())
    ]
    assert names
    for name in names:
        assert f"def {name}(" in tests, name


def test_make_targets_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    texts = [README, *(path.read_text(encoding="utf-8") for path in (REPOSITORY / "docs").glob("*.md"))]
    used = {name for text in texts for name in re.findall(r"(?:`|^ {4})make ([a-z]+)", text, re.MULTILINE)}
    assert {"features", "cv", "torture"} <= used <= targets


def test_make_keeps_a_pytorch_that_is_installed(tmp_path: Path) -> None:
    assert "--constraint constraints.txt" in _printed("install", f"VENV={tmp_path}")
    (tmp_path / "lib/python3.12/site-packages/torch").mkdir(parents=True)
    assert "--constraint" not in _printed("install", f"VENV={tmp_path}")


def test_settings_it_names_exist() -> None:
    from mfhca_train.config.settings import Config

    config = {"model": vars(Config().model), "train": vars(Config().train)}
    for group, name in re.findall(r"\b(model|train)\.([a-z_]+)\b", README):
        assert name in config[group] or name == "py", f"{group}.{name}"


def test_make_ablations_computes_all_features_into_one_cache() -> None:
    given = ["W2V2=/models/wav2vec2-base", "TAILS=1", "FEATURE_ARGS=--dtype float32", "CACHE=here"]
    commands = _make("ablations", *given)
    assert [line.split()[line.split().index("--cache") + 1] for line in commands] == ['"here"'] * 4
    assert all("--dtype float32" in line for line in commands)
    assert all(f"--kind {kind}" in commands[0] for kind in KINDS)
    assert '--backbone "/models/wav2vec2-base"' in commands[1]
    assert ["--tail overlap" in commands[2], "--tail drop" in commands[3]] == [True, True]
    assert len(_make("ablations")) == 1
    assert len(_make("ablations", "TAILS=drop")) == 2


def test_make_cv_reads_the_recipes_that_it_computed() -> None:
    """Also of a cache with others: what `features` is told decides what `cv` is told."""
    given = ["FEATURE_ARGS=--tail overlap", "CACHE=here", "ARGS=--seeds 2"]
    printed = _printed("cv", *given)
    (features,) = re.findall(r"mfhca-cache features (.*)", printed)
    (status, cv) = re.findall(
        r"names=\$\(\S*mfhca-cache status (.*) --names\) && \S*mfhca-train cv (.*(?:\n.*)?)", printed
    )[0]
    assert sorted(status.split()) == sorted(features.split())
    assert cv.split()[-3:] == ["$names", "--seeds", "2"]


def test_make_scans_the_folder_again_for_a_manifest_that_exists(tmp_path: Path) -> None:
    existing = tmp_path / "mine.csv"
    existing.touch()
    scan = "mfhca-cache manifest emodb --root"
    given = ("CORPUS=emodb", f"MANIFEST={existing}")
    assert scan in _printed("manifest", *given)
    assert scan not in _printed("features", *given)


@pytest.mark.parametrize("name", ["corpus", "root", "label_set", "args"])
def test_make_refuses_variables_in_small_letters(name: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "cv", f"{name}=emodb"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"{name}= has no effect; write {name.upper()}=" in done.stderr


def _make(target: str, *given: str) -> list[str]:
    """The `features` commands that make would run."""
    return re.findall(r"mfhca-cache (features [^&\n]*)", _printed(target, *given))


def _printed(target: str, *given: str) -> str:
    return subprocess.run(
        ["make", "--dry-run", "--silent", target, *given],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
