"""Readers against files that nobody would write: only the project's own errors come out, and soon.

Three kinds of damage: any bytes; a good file with bytes changed, cut, put in or taken out; and a good file with
one value of another kind in it, as only somebody who knows the format would write it. Where a digest vouches for a
file, the first two must be refused, whatever they changed.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import shard_factory
from ablation_factory import SKILLS, make_ablation, small_grid
from corpus_factory import request, utterances
from hypothesis import given, settings
from hypothesis import strategies as st
from places import REPOSITORY
from run_factory import leave_out_pictures, make_run, reseal

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, readable_json
from mfhca_cache.manifest.card import check_expected, read_card
from mfhca_cache.manifest.manifest import read_manifest
from mfhca_cache.recipe.folder import RECIPE_FILE, from_dict, read_recipe
from mfhca_cache.store import users
from mfhca_cache.store.shard import read_shard, verify_shard
from mfhca_train.analysis.stored import FILE as ANALYSIS
from mfhca_train.analysis.stored import read as read_analysis
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.config.sources import read_settings
from mfhca_train.inference.bundle import open_ensemble, write_bundle
from mfhca_train.inference.class_map import read_map
from mfhca_train.inference.ensemble import read_run
from mfhca_train.model.saved import load_network
from mfhca_train.report.page import write_report
from mfhca_train.results.checksums import DIGEST, seal
from mfhca_train.results.published import comparable, read_published
from mfhca_train.results.record import read_record
from mfhca_train.results.rescore import rescore
from mfhca_train.runs.crossval import cross_validate
from mfhca_train.runs.grid import read_grid, row_config
from mfhca_train.training.unit import CHECKPOINT

PATIENCE_SECONDS = 20.0  # for one file; a loaded machine takes its time, a reader that asks for memory longer
UNIT = "model/seed-0/fold-s0"
TIMES = int(os.environ.get("MFHCA_FUZZ", "1"))  # how many times as many examples as usual
DEEP = 5000  # brackets in each other


@dataclass(frozen=True)
class Target:
    """A good file, and who reads it."""

    path: Path
    read: Callable[[], object]
    unit: Path | None = None  # whose result.json gets the digest of the changed file


Damage = Callable[[bytes], bytes]


def position(share: float, size: int) -> int:
    return min(int(share * size), max(size - 1, 0))


def flip(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :] if data else b"x"


SHARES = st.floats(0, 1)
FEW = st.binary(min_size=1, max_size=9)
# How one file becomes another: functions of its bytes.
FLIPS: st.SearchStrategy[Damage] = st.builds(
    lambda s, bit: lambda d: flip(d, position(s, len(d)), bit), SHARES, st.integers(0, 7)
)
DAMAGES: st.SearchStrategy[Damage] = st.one_of(
    FLIPS,  # three times as often as any other
    FLIPS,
    FLIPS,
    st.builds(lambda s: lambda d: d[: position(s, len(d))], SHARES),
    st.builds(lambda s, b: lambda d: d[: position(s, len(d))] + b + d[position(s, len(d)) :], SHARES, FEW),
    st.builds(
        lambda s, b: lambda d: d[: position(s, len(d))] + b + d[position(s, len(d)) + len(b) :], SHARES, FEW
    ),
    st.builds(lambda b: lambda d: b + d, FEW),
    st.builds(lambda b: lambda d: d + b, FEW),
    st.binary(max_size=60).map(lambda b: lambda _: b),
    st.sampled_from([b"[" * DEEP, b'{"a":' * DEEP, b"\xff\xfe", b"\0" * 40, b"x = " + b"[" * DEEP]).map(
        lambda b: lambda _: b
    ),
)
# What stands in place of a value of JSON.
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 10**18, 1e299, -0.5, "", "x", "../../etc", "/etc", "\0", "é", "a" * 300, [], {}, [[]]]
) | st.sampled_from([[None], {"": 0}, [1, "x"], {"a": {"b": []}}, [[[1]]]])
TOML = st.sampled_from(
    ["1", "-1", '"x"', '""', "[]", "{}", "true", "nan", "inf", "1e400", "9" * 400, "[[1]]", "1979-05-27"]
) | st.sampled_from(
    ['"\\u0000"', '["x", 1]', "{ a = 1 }", '{ a = "x" }', "0.5", '"../x"', "[" * DEEP, "9" * 5000]
)
CELLS = st.sampled_from(
    [
        "",
        "nan",
        "inf",
        "-1",
        "1e999",
        "9" * 400,
        "\0",
        '"',
        "a" * 200_000,
        "é",
        "../x",
        "/x",
        "x,y",
        "\n",
        "0",
    ]
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in pairs for place in [(value, key), *places(inner)]]


def other_json(data: bytes, share: float, odd: Any, how: str) -> bytes:
    """A JSON file with another value somewhere, or without it, and the digest that belongs to it."""
    value = json.loads(data)
    inside = isinstance(value, dict) and value.pop(DIGEST, None) is not None
    found = places(value)
    container, key = found[position(share, len(found))]
    if how == "gone":
        del container[key]
    elif how == "renamed" and isinstance(container, dict):
        container["odd"] = container.pop(key)
    else:
        container[key] = odd
    return readable_json(seal(value) if inside else value).encode()


def other_toml(data: bytes, share: float, odd: str) -> bytes:
    lines = data.decode().split("\n")
    chosen = [i for i, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    at = chosen[position(share, len(chosen))]
    lines[at] = f"{lines[at].partition('=')[0]}= {odd}"
    return "\n".join(lines).encode()


def other_cell(data: bytes, row: float, column: float, odd: str) -> bytes:
    lines = [line.split(",") for line in data.decode().split("\n")]
    cells = lines[position(row, len(lines) - 1)]
    cells[position(column, len(cells))] = odd
    return "\n".join(",".join(line) for line in lines).encode()


def other_header(data: bytes, share: float, odd: Any) -> bytes:
    """A safetensors file with another value in its header, as long as it says."""
    (length,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + length])
    if "__metadata__" in head:  # whose values are texts, JSON again
        head["__metadata__"] = {
            name: json.loads(v) if v[:1] in "[{" else v for name, v in head["__metadata__"].items()
        }
    found = places(head)
    container, key = found[position(share, len(found))]
    container[key] = odd
    about = head.get("__metadata__")
    if isinstance(about, dict):
        head["__metadata__"] = {
            n: v if isinstance(v, str) else canonical_json(v) for n, v in about.items() if n != DIGEST
        }
    text = canonical_json(head).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


JSONS = st.builds(
    lambda s, odd, how: lambda d: other_json(d, s, odd, how),
    SHARES,
    ODD,
    st.sampled_from(["value", "value", "gone", "renamed"]),
)
TOMLS = st.builds(lambda s, odd: lambda d: other_toml(d, s, odd), SHARES, TOML)
TABLES = st.builds(lambda r, c, odd: lambda d: other_cell(d, r, c, odd), SHARES, SHARES, CELLS)
HEADERS = st.builds(lambda s, odd: lambda d: other_header(d, s, odd), SHARES, ODD)


def try_on(target: Target, damage: Damage, vouched: bool) -> None:
    """A reader meets a damaged file: an error of the project, or a value where nothing vouches for the file."""
    good = target.path.read_bytes()
    bad = damage(good)
    inode = target.path.stat().st_ino
    result = (target.unit / "result.json").read_bytes() if target.unit else b""
    target.path.write_bytes(bad)
    if target.unit:
        reseal(target.unit)
    start = time.monotonic()
    try:
        target.read()
    except MfhcaError:
        pass
    else:
        assert bad == good or not vouched, "a change was not found"
    finally:
        assert target.path.stat().st_ino == inode
        target.path.write_bytes(good)
        if target.unit:
            (target.unit / "result.json").write_bytes(result)
    assert time.monotonic() - start < PATIENCE_SECONDS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one fold with its analysis, its bundle, a copy, an ablation, and a cache."""
    folder = tmp_path_factory.mktemp("fuzz")
    cross_validate(request(folder, folds=("s0",), analysis=True))
    write_bundle(read_run(folder / "run"), folder / "bundle")
    shutil.copytree(folder / "run", folder / "plain")
    make_run(folder / "shown")
    grid = small_grid(folder / "of")
    make_ablation(folder / "ablation", grid, SKILLS)
    shard_factory.recipe_folder(folder / "shards")
    for name in ("emodb.toml", "published.toml"):
        shutil.copy(REPOSITORY / "manifests" / name, folder / name)
    shutil.copy(REPOSITORY / "manifests/ablations/table2.toml", folder / "grid.toml")
    settings_file = "train.lr = 1e-3\n[model]\ngrf_channels = [8, 8]\nhca = 'temporal'\n"
    (folder / "config.toml").write_text(settings_file)
    (folder / "map.toml").write_text('joy = "happiness"\nfear = "x"\n')
    for path in folder.rglob("*"):
        assert not path.is_symlink()
    return folder


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[[], object]]:
    """A unit that was stopped after its last epoch, and what goes on with it."""
    from unit_factory import train_fold

    folder = tmp_path_factory.mktemp("unfinished")
    work = folder / ".unit.partial"

    def go_on() -> object:
        shutil.rmtree(folder / "unit", ignore_errors=True)
        kept = shutil.copytree(work, folder / "kept")
        try:
            return train_fold(folder, utterances(), train__epochs="1")
        finally:
            shutil.rmtree(work, ignore_errors=True)
            kept.rename(work)

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    patch = pytest.MonkeyPatch()
    patch.setattr("mfhca_train.training.fit.Trainer._finish", stop)
    with pytest.raises(Stop):
        train_fold(folder, utterances(), train__epochs="1")
    patch.undo()
    return work, go_on


def classes(folder: Path) -> tuple[str, ...]:
    return tuple(json.loads((folder / "results.json").read_text())["classes"])


def run_readers(run: Path) -> Callable[[], object]:
    """All that reads a run folder, but the pictures."""

    def read() -> None:
        read_record(run)
        read_run(run)
        rescore(run, "duration")

    return read


def vouched_targets(made: Path) -> dict[str, Target]:
    run, bundle = made / "run", made / "bundle"
    config = request(made).config
    read = run_readers(run)
    shard = next((made / "shards").glob("*/03.h5"))
    targets = {
        "run.json": Target(run / "run.json", read),
        "data.csv": Target(run / "data.csv", read),
        "results.json": Target(run / "results.json", read),
        "analysis": Target(run / "model" / ANALYSIS, lambda: read_analysis(run / "model" / ANALYSIS)),
        "card.json": Target(bundle / "card.json", lambda: open_ensemble(bundle)),
        "networks": Target(bundle / "networks.safetensors", lambda: open_ensemble(bundle)),
        "shard": Target(shard, lambda: verify_shard(read_shard(shard))),
    }
    names = ("result.json", "history.csv", "predictions.csv", "segments.csv")
    targets |= {name: Target(run / UNIT / name, read) for name in names}
    for name in ("best.safetensors", "inputs.safetensors"):
        targets[name] = Target(run / UNIT / name, lambda: load_network(run / UNIT, config.model, 4))
    return targets


def trusting_targets(made: Path) -> dict[str, tuple[Target, st.SearchStrategy[Damage]]]:
    """Files whose digest does not help: people write them, or they are wrong and have the right digest."""
    plain, unit = made / "plain", made / "plain" / UNIT
    read = run_readers(plain)
    config = request(made).config
    grid, card, published = made / "grid.toml", made / "emodb.toml", made / "published.toml"
    recipe = next((made / "shards").iterdir())
    note = recipe / users.MANIFESTS
    note.write_text(readable_json([{"manifest": str(made / "corpus.csv"), "root": str(made)}]))
    ablation = made / "ablation"

    def rows() -> None:
        found = read_grid(grid)
        base = with_settings(Config(), found.base.settings)
        for row in found.rows:
            row_config(base, row)

    def figures() -> None:
        comparable(read_published(grid).scores, "iemocap", "four", ())

    def carded() -> None:
        check_expected(read_card(card), utterances())

    def keyed() -> None:
        from_dict(read_recipe(recipe).recipe)

    return {
        "manifest": (Target(made / "corpus.csv", lambda: read_manifest(made / "corpus.csv")), TABLES),
        "card": (Target(card, carded), TOMLS),
        "grid": (Target(grid, rows), TOMLS),
        "published": (Target(published, figures), TOMLS),
        "config": (
            Target(made / "config.toml", lambda: with_settings(config, read_settings(made / "config.toml"))),
            TOMLS,
        ),
        "class map": (Target(made / "map.toml", lambda: read_map([str(made / "map.toml")])), TOMLS),
        "recipe.json": (Target(recipe / RECIPE_FILE, keyed), JSONS),
        "manifests.json": (Target(note, lambda: users.recorded_users(recipe)), JSONS),
        "run.json": (Target(plain / "run.json", read), JSONS),
        "results.json": (Target(plain / "results.json", read), JSONS),
        "result.json": (Target(unit / "result.json", read), JSONS),
        "history.csv": (Target(unit / "history.csv", read, unit), TABLES),
        "predictions.csv": (Target(unit / "predictions.csv", read, unit), TABLES),
        "segments.csv": (Target(unit / "segments.csv", read, unit), TABLES),
        "best": (
            Target(unit / "best.safetensors", lambda: load_network(unit, config.model, 4), unit),
            HEADERS,
        ),
        "inputs": (
            Target(unit / "inputs.safetensors", lambda: load_network(unit, config.model, 4), unit),
            HEADERS,
        ),
        "card.json": (
            Target(made / "bundle/card.json", lambda: open_ensemble(made / "bundle").build("cpu")),
            JSONS,
        ),
        "ablation's results.json": (
            Target(ablation / "results.json", lambda: read_record(ablation)),
            JSONS,
        ),
        "ablation's run.json": (Target(ablation / "run.json", lambda: read_record(ablation)), JSONS),
        "ablation's inputs": (
            Target(
                next(ablation.glob("*/seed-0/*/inputs.safetensors")),
                lambda: read_record(ablation),
            ),
            HEADERS,
        ),
    }


VOUCHED = (
    "run.json",
    "data.csv",
    "results.json",
    "analysis",
    "card.json",
    "networks",
    "shard",
    "result.json",
)
VOUCHED += ("history.csv", "predictions.csv", "segments.csv", "best.safetensors", "inputs.safetensors")
TRUSTING = ("manifest", "card", "grid", "published", "config", "class map", "recipe.json", "manifests.json")
TRUSTING += (
    "run.json",
    "results.json",
    "result.json",
    "history.csv",
    "predictions.csv",
    "segments.csv",
    "best",
)
TRUSTING += ("inputs", "card.json", "ablation's results.json", "ablation's run.json", "ablation's inputs")


@pytest.mark.parametrize("name", VOUCHED)
@settings(max_examples=24 * TIMES)
@given(damage=DAMAGES)
def test_no_change_of_a_file_with_a_digest_passes(made: Path, name: str, damage: Damage) -> None:
    try_on(vouched_targets(made)[name], damage, vouched=True)


@pytest.mark.parametrize("name", TRUSTING)
@settings(max_examples=12 * TIMES)
@given(damage=DAMAGES)
def test_any_bytes_give_an_error_of_the_project_or_a_value(made: Path, name: str, damage: Damage) -> None:
    try_on(trusting_targets(made)[name][0], damage, vouched=False)


@pytest.mark.parametrize("name", TRUSTING)
@settings(max_examples=15 * TIMES)
@given(data=st.data())
def test_any_value_gives_an_error_of_the_project_or_a_value(
    made: Path, name: str, data: st.DataObject
) -> None:
    target, damages = trusting_targets(made)[name]
    try_on(target, data.draw(damages), vouched=False)


@settings(max_examples=15 * TIMES)
@given(damage=DAMAGES, name=st.sampled_from([CHECKPOINT, "best.safetensors"]))
def test_no_change_of_what_an_unfinished_unit_goes_on_with_passes(
    unfinished: tuple[Path, Callable[[], object]], damage: Damage, name: str
) -> None:
    work, go_on = unfinished
    try_on_copy(work / name, go_on, damage)


def try_on_copy(path: Path, read: Callable[[], object], damage: Damage) -> None:
    """Like `try_on`, where what is read moves the file."""
    good = path.read_bytes()
    bad = damage(good)
    path.write_bytes(bad)
    try:
        if bad == good:
            read()
        else:
            with pytest.raises(MfhcaError):
                read()
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("folder", ["shown", "ablation"])
@settings(max_examples=12 * TIMES)
@given(damage=JSONS)
def test_a_report_of_odd_results_is_written_or_refused(made: Path, folder: str, damage: Damage) -> None:
    with pytest.MonkeyPatch.context() as patch:
        leave_out_pictures(patch)
        target = Target(made / folder / "results.json", lambda: write_report(made / folder))
        try_on(target, damage, vouched=False)


@pytest.mark.parametrize("length", [0, 1 << 20, 1 << 40, (1 << 64) - 1])
def test_a_header_that_claims_more_than_the_file_holds_asks_for_no_memory(made: Path, length: int) -> None:
    import tracemalloc

    targets = trusting_targets(made)
    for name in ("best", "inputs", "ablation's inputs"):
        tracemalloc.start()
        try_on(targets[name][0], lambda data: struct.pack("<Q", length) + data[8:], vouched=True)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64 << 20
