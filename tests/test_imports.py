"""What may import what: the stages meet at files, and light commands stay light."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from places import FACTORIES, REPOSITORY

# The rooms of stage one that stage two may import from.
SHARED_WITH_TRAINER = {"common", "manifest", "recipe", "store"}
# The modules of stage two that compute features from audio or look for an encoder; they import it inside a function.
EXTRACTING = {"inference/predictor.py", "inference/hub.py", "analysis/examples.py"}
# The rooms, as CONTRIBUTING.md maps them. A module outside them is misplaced.
ROOMS = {
    "mfhca_cache": {
        "__init__.py",
        "__main__.py",
        "cli.py",
        "interface.py",
        "options.py",
        *("build", "common", "corpora", "doctor", "exchange", "features", "manifest", "recipe", "store"),
    },
    "mfhca_train": {
        "__init__.py",
        "__main__.py",
        *("analysis", "cli", "config", "data", "inference", "interface"),
        *("model", "report", "results", "runs", "tracking", "training"),
    },
}
HEAVY = {
    "torch",
    "numpy",
    "h5py",
    "transformers",
    "librosa",
    "scipy",
    "sklearn",
    "matplotlib",
    "joblib",
    "numba",
    "soundfile",
    "distributed",
    "dask",
}


def imported(file: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh Python has loaded after running `code`."""
    script = f"import sys\n{code}\nprint(' '.join(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_trainer_knows_only_the_readers_of_the_cache() -> None:
    package = REPOSITORY / "mfhca_train"
    for file in package.rglob("*.py"):
        name = file.relative_to(package).as_posix()
        used = {module.split(".")[1] for module in imported(file) if module.startswith("mfhca_cache.")}
        assert used <= SHARED_WITH_TRAINER | ({"features"} if name in EXTRACTING else set()), name


@pytest.mark.parametrize("package", ["mfhca_cache", "mfhca_train"])
def test_every_module_lies_in_a_room(package: str) -> None:
    folder = REPOSITORY / package
    tops = {file.relative_to(folder).parts[0] for file in folder.rglob("*.py")}
    assert tops == ROOMS[package]
    for room in {file.parent for file in folder.rglob("*.py")}:
        assert len(list(room.glob("*.py"))) <= 16, f"{room} is crowded"
    for file in folder.rglob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 300, f"{file} is long"


def test_the_cache_knows_nothing_of_the_trainer() -> None:
    for file in (REPOSITORY / "mfhca_cache").rglob("*.py"):
        assert not [name for name in imported(file) if name.startswith("mfhca_train")], file.name


def test_transformers_and_librosa_are_named_in_stage_one_alone() -> None:
    for file in (REPOSITORY / "mfhca_train").rglob("*.py"):
        tops = {name.partition(".")[0] for name in imported(file)}
        assert not tops & {"transformers", "librosa", "soundfile", "soxr"}, file.name


@pytest.mark.parametrize("package", ["mfhca_cache", "mfhca_train"])
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    assert not loaded_after(f"import {package}") & HEAVY


@pytest.mark.parametrize("package", ["mfhca_cache", "mfhca_train"])
def test_what_a_package_offers_is_what_its_modules_define_and_type_checkers_see(package: str) -> None:
    """Three lists that people and programs read: `__all__`, the modules to load from, the imports for checkers."""
    module = importlib.import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    checked = {
        (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = {(f"{package}.{home}", name) for home, names in module._HOMES.items() for name in names}
    assert checked == homes
    assert sorted(name for _, name in homes) == sorted(module.__all__) == sorted(set(module.__all__))
    for home, name in homes:
        assert getattr(module, name) is getattr(importlib.import_module(home), name)
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("package", ["mfhca_cache", "mfhca_train"])
def test_packages_say_that_they_are_typed(package: str) -> None:
    assert (REPOSITORY / package / "py.typed").read_text() == ""


@pytest.mark.parametrize("package", ["mfhca_cache", "mfhca_train"])
def test_help_loads_nothing_heavy(package: str) -> None:
    code = f"import sys; from {package}.__main__ import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    assert not loaded_after(code) & HEAVY


def test_status_and_an_idle_features_load_nothing_that_computes_features() -> None:
    code = "import mfhca_cache.build.compute, mfhca_cache.build.status"
    assert not loaded_after(code) & {"torch", "transformers", "librosa", "scipy"}


def test_a_predictor_loads_stage_one_only_when_it_is_made() -> None:
    loaded = loaded_after(
        "import mfhca_train.inference.predictor, mfhca_train.inference.cross_corpus, mfhca_train.inference.bundle"
    )
    assert not loaded & {"transformers", "librosa", "soundfile"}


def test_training_from_a_cache_loads_no_encoder(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path\nsys.path.insert(0, {str(FACTORIES)!r})\n"
        "from corpus_factory import request\nfrom mfhca_train.runs.crossval import cross_validate\n"
        f"cross_validate(request(Path({str(tmp_path)!r}), settings={{'train.epochs': '1'}}, folds=('s0',)))"
    )
    assert not loaded_after(code) & {"transformers", "librosa", "soundfile"}
