"""The sections that let others repeat a run: settings, commands, features, versions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mfhca_train.config.parse import from_dict, unused_settings
from mfhca_train.config.presets import SMALL_BELOW
from mfhca_train.config.settings import Config, setting_text
from mfhca_train.report.blocks import Cell, Cells, Table
from mfhca_train.results.record import Record
from mfhca_train.results.schema import CorpusOfRun, Environment

SIDES = {"spec": "spectrogram", "ssl": "speech encoder", "mfcc": "MFCCs"}
COLUMNS = ["Setting", "Value", "Default"]


def settings(record: Record) -> dict[str, Any]:
    """In which settings the rows differ, and which they share."""
    configs = {name: flat(row.config) for name, row in record.rows.items()}
    every = list(dict.fromkeys(name for config in configs.values() for name in config))
    common = _shared(list(configs.values()))
    differing = [name for name in every if name not in common]
    sides = [side for side in SIDES if any(side in row.recipes for row in record.rows.values())]
    rows: list[Cells] = [
        [
            record.labels[name],
            row.kind,
            *(setting_text(configs[name].get(one, "–")) for one in differing),
            *(Cell(row.recipes.get(side, "–"), code=side in row.recipes) for side in sides),
        ]
        for name, row in record.rows.items()
    ]
    head = ["Row", "Kind", *differing, *(f"features: {SIDES[side]}" for side in sides)]
    default = flat(Config().to_dict())
    whole = [
        [name, setting_text(value), setting_text(default.get(name, "–"))] for name, value in common.items()
    ]
    changed = [line for line in whole if line[0] in changed_settings(common)]
    return {
        "single": bool(record.single),
        "several": bool(next(iter(record.rows.values())).corpora),
        "default_preset": record.results.default_preset,
        "below": f"{SMALL_BELOW:,}",
        "rows": Table("settings and features of every row", head, [] if record.single else rows),
        "changed": Table("settings that are not the defaults", COLUMNS, changed),
        "all": Table("all settings", COLUMNS, whole),
    }


def flat(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Settings by their dotted names.

    >>> flat({"train": {"lr": 1}})
    {'train.lr': 1}
    """
    return {f"{group}.{name}": value for group, values in config.items() for name, value in values.items()}


def _shared(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that all rows have with the same value."""
    every = dict.fromkeys(name for config in configs for name in config)
    first = configs[0]
    return {
        name: first.get(name)
        for name in every
        if all(config.get(name) == first.get(name) for config in configs)
    }


def changed_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not the program's defaults."""
    default = flat(Config().to_dict())
    return {name: value for name, value in config.items() if name not in default or default[name] != value}


def repeat(record: Record) -> dict[str, Any]:
    """The commands, the recipes of the features, and what else the scores depend on."""
    about = record.about
    rows: list[Cells] = [
        ["processor", about.cpu],
        ["requested device", about.device],
        ["threads per fold", str(record.results.threads)],
    ]
    rows += [[name, version] for name, version in about.versions.items()]
    for field, words in (
        ("data_digest", "audio"),
        ("features_digest", "features"),
        ("label_digest", "labels and speakers"),
    ):
        digests: dict[str, list[str]] = {}
        for name in record.rows:
            digests.setdefault(getattr(about.rows[name], field), []).append(name)
        for digest, of_rows in digests.items():
            rows.append([words if len(digests) == 1 else f"{words}: {', '.join(of_rows)}", digest])
    identity = [[name, Cell(str(value), code=True)] for name, value in rows]
    return {
        "single": bool(record.single),
        "commands": commands(record),
        "recipes": _recipes(record),
        "audio_checked": about.audio_checked,
        "environments": _environments(record),
        "mixed": Table(
            "features computed under different conditions",
            ["Features", "Differences"],
            [[name, "; ".join(differences)] for name, differences in record.results.mixed_features.items()],
            wordy=True,
        ),
        "identity": Table("versions and identity of the data", ["What", "Which"], identity),
    }


def _environments(record: Record) -> Table:
    """Where the units of a row were trained, if not all in one environment: what differs from the first."""
    rows: list[Cells] = []
    for name, row in record.rows.items():
        entries = [_entries(one) for one in row.environments]
        for one, own in zip(row.environments, entries, strict=True):
            differing = [
                key
                for key in dict.fromkeys(k for e in entries for k in e)
                if len({e.get(key) for e in entries}) > 1
            ]
            units = "; ".join(f"fold {fold}, seed {seed}" for fold, seed in one.units)
            own_values = ", ".join(f"{key} {own.get(key, 'none')}" for key in differing)
            rows.append([units, own_values, *([] if record.single else [record.labels[name]])])
    head = ["Folds and seeds", "Trained with", *([] if record.single else ["Row"])]
    return Table("units trained in different environments", head, rows, wordy=True)


def _entries(environment: Environment) -> dict[str, str]:
    """The parts of an environment by name."""
    accelerator = {"accelerator": environment.accelerator} if environment.accelerator else {}
    return {"cpu": environment.cpu, "device": environment.device, **accelerator, **environment.versions}


def _recipes(record: Record) -> Table:
    """Every recipe of features by its key, with its fields as far as a network stored them."""
    used: dict[tuple[str, str], list[str]] = {}
    for name, row in record.rows.items():
        for side, key in row.recipes.items():
            used.setdefault((side, key), []).append(name)
    rows: list[Cells] = []
    for (side, key), of_rows in used.items():
        stored = next(
            (record.inputs[name][side] for name in of_rows if side in record.inputs.get(name, {})), None
        )
        fields = "not stored in this run"
        if stored:
            fields = ", ".join(f"{name} = {setting_text(value)}" for name, value in stored.recipe.items())
        called = record.about.recipe_names.get(key)
        rows.append(
            [
                SIDES.get(side, side),
                Cell(f"{called}-{key}" if called else key, code=True),
                len(of_rows),
                fields,
            ]
        )
    return Table("recipes of the features", ["Side", "Key", "Rows", "Recipe"], rows, numbers=(2,), wordy=True)


def commands(record: Record) -> list[str]:
    """The calls of `cv` or `ablate` that give the rows their seeds: one per group of rows with equal seeds.

    A call keeps the rows that it was not asked for with the seeds they have, so the order does not matter. The
    file names are neutral: a new run folder, no path of one machine.
    """
    groups: dict[int, list[str]] = {}
    for name, row in record.networks.items():
        groups.setdefault(1 + max(row.seeds), []).append(name)
    if len(groups) < 2:
        every = () if record.single or record.results.complete else list(record.rows)
        return [_command(record, every, max(groups, default=1))]
    largest = max(groups, key=lambda count: len(groups[count]))
    # Rows without a network are the same under every seed.
    first = [name for name in record.rows if name in groups[largest] or name not in record.networks]
    rest = {count: rows for count, rows in groups.items() if count != largest}
    return [_command(record, rows, count) for count, rows in ({largest: first} | rest).items()]


def _class_map(corpora: Mapping[str, CorpusOfRun]) -> list[str]:
    """What `--map` must say of the classes of several corpora: all but those that every corpus calls the same."""
    tables = {name: corpus.classes for name, corpus in corpora.items()}
    return [
        f"{name}/{theirs}={ours}"
        for name, table in tables.items()
        for theirs, ours in table.items()
        if theirs != ours or any(ours not in other.values() for other in tables.values())
    ]


def _command(record: Record, rows: Sequence[str], seeds: int) -> str:
    """One call for these rows, for all if none is named."""
    results = record.results
    parts = ["ablate", results.grid] if results.grid else ["cv"]
    corpora = next(iter(record.rows.values())).corpora
    parts += [f"manifests/{name}.csv" for name in corpora or [results.corpus]]
    parts += ["--cache", "cache", "--out", "runs/again"]
    parts += ["--label-set", results.label_set, "--protocol", results.protocol]
    parts += [part for text in _class_map(corpora) for part in ("--map", text)]
    parts += [
        "--preset",
        "paper",
    ]  # all defaults: a corpus card or the preset of small corpora would decide the rest
    changed = changed_settings(flat(results.config))
    if record.single:  # a setting without effect would be refused
        changed = {
            name: changed[name] for name in changed if name not in unused_settings(from_dict(results.config))
        }
    for name, value in changed.items():
        parts += ["--set", f"{name}={setting_text(value)}"]
    parts += [part for name in rows for part in ("--row", name)]
    incomplete = [row for row in record.rows.values() if not row.complete]
    folds = dict.fromkeys(fold.id for row in incomplete for fold in row.folds)
    parts += [part for fold in folds for part in ("--fold", fold)]
    parts += ["--seeds", str(seeds), "--threads", str(results.threads)]
    device = record.about.device
    return shlex.join(["mfhca-train", *parts, *(["--device", device] if device != "auto" else [])])
