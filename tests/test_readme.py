"""The README promises nothing that is not there."""

from __future__ import annotations

import importlib.util
import re

from conftest import REPOSITORY

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
    tests = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").glob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", README):
        assert f"def {name}(" in tests, name
    targets = set(re.findall(r"^([a-z]+):.*##", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    used = {word for line in re.findall(r"\bmake ([a-z ]+)", README) for word in line.split()[:1]}
    assert used - {"does"} <= targets


def test_settings_it_names_exist() -> None:
    from mfhca_train.config import Config

    config = {"model": vars(Config().model), "train": vars(Config().train)}
    for group, name in re.findall(r"\b(model|train)\.([a-z_]+)\b", README):
        assert name in config[group] or name == "py", f"{group}.{name}"
