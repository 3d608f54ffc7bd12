"""The sections of a report that let others repeat the run: its settings, its command, and what it rests on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from mfhca_train.config.settings import Config
from mfhca_train.report.html import Markup, escaped, table
from mfhca_train.results.record import Record

SIDES = {"spec": "spectrogram", "ssl": "speech encoder", "mfcc": "MFCCs"}


def settings(record: Record) -> str:
    """Settings that are not the defaults, and all of them folded away."""
    changed, rows = _changed(record), []
    columns = ["Setting", "Here", "Default"]
    default = flat(Config().to_dict())
    for name, value in flat(record.results["config"]).items():
        rows.append([name, shown_value(value), shown_value(default[name]) if name in default else "–"])
    shown = "<p>All settings have the program's default values.</p>"
    if changed:
        differing = table(columns, [row for row in rows if row[0] in changed], label="settings that differ")
        shown = f"<p>These settings differ from the program's defaults:</p>\n{differing}"
    return f"""<h2>Settings</h2>
{shown}
<details><summary>All settings</summary>
{table(columns, rows, label="all settings")}</details>"""


def origin(record: Record) -> str:
    """The command, and what the figures rest on."""
    results, run = record.results, record.run
    called = run.get("recipe_names") or {}
    rows = [
        [f"features: {SIDES.get(side, side)}", f"{called[key]}-{key}" if key in called else key]
        for side, key in results["recipes"].items()
    ]
    rows += [["data of the features", run["data_digest"]], ["labels and speakers", run["label_digest"]]]
    rows += [["processor", run["cpu"]], ["device asked for", run["device"]]]
    rows += [["threads for each fold", results["threads"]]]
    rows += [[name, version] for name, version in run["versions"].items()]
    coded = [[name, Markup(f"<code>{escaped(value)}</code>")] for name, value in rows]
    return f"""<h2>Repeat this run</h2>
<pre>{escaped(_command(record))}</pre>
<p class="small">The manifest and the cache are those that <code>mfhca-cache</code> made; where the cache
holds several recipes of features, name those below with <code>--spec</code> and <code>--ssl</code>. With the
same features, settings, threads, versions and kind of processor, every figure comes out the same to the last
digit.</p>
<details><summary>Identity of the data, versions</summary>
{table(["What", "Which"], coded, label="identity and versions")}</details>"""


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """{"train": {"lr": 1}} to {"train.lr": 1}."""
    return {f"{group}.{name}": value for group, values in config.items() for name, value in values.items()}


def _changed(record: Record) -> list[str]:
    default, here = flat(Config().to_dict()), flat(record.results["config"])
    return [name for name, value in here.items() if name not in default or default[name] != value]


def shown_value(value: Any) -> str:
    """As --set takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _command(record: Record) -> str:
    """`cv` with names that hold anywhere: a new run folder, no path of this machine."""
    results = record.results
    here = flat(results["config"])
    parts = [f"manifests/{results['corpus']}.csv", "--cache", "cache", "--out", "runs/again"]
    parts += ["--label-set", results["label_set"], "--protocol", results["protocol"]]
    for name in _changed(record):
        parts += ["--set", f"{name}={shown_value(here[name])}"]
    for fold in [] if results["complete"] else dict.fromkeys(unit["id"] for unit in results["folds"]):
        parts += ["--fold", fold]
    parts += ["--seeds", str(len(results["seeds"])), "--threads", str(results["threads"])]
    device = record.run["device"]
    return shlex.join(["mfhca-train", "cv", *parts, *(["--device", device] if device != "auto" else [])])
