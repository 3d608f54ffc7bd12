"""The README promises nothing that is not there."""

from __future__ import annotations

import importlib.util
import re
import subprocess

from places import REPOSITORY

from mfhca_cache.recipe.kinds import KINDS

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_results_are_what_the_program_writes() -> None:
    spec = importlib.util.spec_from_file_location("readme", REPOSITORY / "bench" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    assert program.updated(README) == README


def test_files_tests_and_targets_it_names_exist() -> None:
    for path in re.findall(r"`((?:mfhca_\w+|tests|bench|manifests)/[\w./-]+\.\w+)`", README):
        assert "CORPUS" in path or (REPOSITORY / path).exists(), path
    tests = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", README):
        assert f"def {name}(" in tests, name
    targets = set(re.findall(r"^([a-z]+):.*##", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    used = set(re.findall(r"(?:`|^ {4})make ([a-z]+)", README, re.MULTILINE))
    assert {"features", "cv", "torture"} <= used <= targets


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
