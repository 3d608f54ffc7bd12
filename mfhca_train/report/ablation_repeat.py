"""The sections of an ablation's report that let others repeat it: settings, commands, features, versions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mfhca_train.config.settings import Config
from mfhca_train.report.ablation_sections import label
from mfhca_train.report.html import Markup, escaped, table
from mfhca_train.report.repeat import SIDES, flat, shown_value
from mfhca_train.results.ablation_record import AblationRecord


def settings(record: AblationRecord) -> str:
    """In which settings the rows differ, and what they share."""
    configs = {name: flat(row["config"]) for name, row in record.rows.items()}
    default = flat(Config().to_dict())
    every = list(dict.fromkeys(name for config in configs.values() for name in config))
    common: dict[str, Any] = {}
    for name in every:
        values = [config.get(name) for config in configs.values()]
        if all(value == values[0] for value in values):
            common[name] = values[0]
    differing = [name for name in every if name not in common]
    recipes = {name: row["recipes"] for name, row in record.rows.items()}
    sides = [side for side in SIDES if any(side in of for of in recipes.values())]
    head = ["Row", "Kind", *differing, *(f"features: {SIDES[side]}" for side in sides)]
    rows = [
        [
            label(record, name),
            row["kind"],
            *(shown_value(configs[name].get(one, "–")) for one in differing),
            *(_code(recipes[name].get(side)) for side in sides),
        ]
        for name, row in record.rows.items()
    ]
    changed = [
        [name, shown_value(value), shown_value(default.get(name, "–"))]
        for name, value in common.items()
        if default.get(name) != value
    ]
    whole = [
        [name, shown_value(value), shown_value(default.get(name, "–"))] for name, value in common.items()
    ]
    columns = ["Setting", "Here", "Default"]
    apart = "<p>What all rows share are the program's defaults.</p>"
    if changed:
        apart = f"<p>Shared by all rows, and not the program's defaults:</p>\n{table(columns, changed, label='shared')}"
    return f"""<p>Where the rows differ; a setting that a row does not read (those of HCA in a row without it) stands at
its default.</p>
{table(head, rows, label="settings and features of every row")}
{apart}
<details><summary>All settings that the rows share</summary>
{table(columns, whole, label="all shared settings")}</details>"""


def origin(record: AblationRecord) -> str:
    """The commands, the recipes of the features, and what else the figures rest on."""
    about = record.about
    rows: list[list[Any]] = [
        ["processor", about["cpu"]],
        ["device asked for", about["device"]],
        ["threads for each fold", record.results["threads"]],
        *([name, version] for name, version in about["versions"].items()),
    ]
    for what, words in (("data_digest", "data of the features"), ("label_digest", "labels and speakers")):
        digests: dict[str, list[str]] = {}
        for name in record.rows:
            digests.setdefault(about["rows"][name][what], []).append(name)
        for digest, of in digests.items():
            rows.append([words if len(digests) == 1 else f"{words}: {', '.join(of)}", digest])
    identity = table(["What", "Which"], [[name, _code(value)] for name, value in rows], label="versions")
    lines = commands(record)
    how = "Rows with other seeds have a command of their own; run all of them in turn, each keeps what is there.\n"
    how = how if len(lines) > 1 else ""
    blocks = "\n".join(f"<pre>{escaped(line)}</pre>" for line in lines)
    return f"""{blocks}
<p class="small">{how}The grid, the manifest and the cache are those that belong to this run; rows whose features the
cache lacks are left out with <code>--skip-missing</code>. With the same features, settings, threads, versions and
kind of processor, every figure comes out the same to the last digit.</p>
<h3>Features</h3>
{_recipes(record)}
<details><summary>Versions and identity of the data</summary>
{identity}</details>"""


def _recipes(record: AblationRecord) -> str:
    """Every recipe by its key, with its fields as far as they are kept."""
    used: dict[tuple[str, str], int] = {}
    for row in record.rows.values():
        for side, key in row["recipes"].items():
            used[side, key] = used.get((side, key), 0) + 1
    rows = []
    for (side, key), count in used.items():
        fields = record.recipes.get(key)
        text = "not kept in this run"
        if fields is not None:
            text = ", ".join(f"{name} = {shown_value(value)}" for name, value in fields.items())
        rows.append([SIDES.get(side, side), _code(key), count, text])
    return table(["Side", "Key", "Rows", "Recipe"], rows, (), (2,), "recipes of the features")


def commands(record: AblationRecord) -> list[str]:
    """The calls of `ablate` that give these rows their seeds: one, or one for each group of rows with equal seeds.

    A call keeps the rows that it was not asked for with the seeds they have, so the order does not matter. The
    names hold anywhere: a new run folder, no path of this machine.

    Args:
        record: of the ablation.
    """
    groups: dict[int, list[str]] = {}
    for name, row in record.networks.items():
        groups.setdefault(1 + max(row["seeds"]), []).append(name)
    if len(groups) < 2:
        return [
            _command(record, () if record.results["complete"] else list(record.rows), max(groups, default=1))
        ]
    largest = max(groups, key=lambda count: len(groups[count]))
    # Rows without a network are the same under every seed.
    first = [name for name in record.rows if name in groups[largest] or name not in record.networks]
    rest = {count: names for count, names in groups.items() if count != largest}
    return [_command(record, names, count) for count, names in ({largest: first} | rest).items()]


def _command(record: AblationRecord, rows: Sequence[str], seeds: int) -> str:
    """One call for these rows, for none: all."""
    results = record.results
    parts = [results["grid"], f"manifests/{results['corpus']}.csv", "--cache", "cache", "--out", "runs/again"]
    parts += ["--label-set", results["label_set"], "--protocol", results["protocol"]]
    for name, value in _base(record).items():
        parts += ["--set", f"{name}={shown_value(value)}"]
    parts += [part for name in rows for part in ("--row", name)]
    if not results["complete"]:
        folds = {unit["id"] for row in record.rows.values() if not row["complete"] for unit in row["folds"]}
        parts += [part for fold in sorted(folds) for part in ("--fold", fold)]
    parts += ["--seeds", str(seeds), "--threads", str(results["threads"])]
    device = record.about["device"]
    return shlex.join(["mfhca-train", "ablate", *parts, *(["--device", device] if device != "auto" else [])])


def _base(record: AblationRecord) -> dict[str, Any]:
    """What all rows begin with, where it is not the default; a run that did not keep it has what all rows share."""
    default = flat(Config().to_dict())
    if record.results.get("config"):
        kept = flat(record.results["config"])
    else:
        configs: list[Mapping[str, Any]] = [flat(row["config"]) for row in record.rows.values()]
        kept = {k: v for k, v in configs[0].items() if all(config.get(k) == v for config in configs)}
    return {name: value for name, value in kept.items() if default.get(name) != value}


def _code(value: Any) -> Markup:
    return Markup("–" if value is None else f"<code>{escaped(value)}</code>")
