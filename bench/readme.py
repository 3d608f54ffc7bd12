"""Writes the README's demo output, results, speed and fault sections from stored results and published figures.

    python bench/readme.py [RESULTS_JSON ...]

With arguments, those `results.json` of `cv` are first copied into bench/results/,
named by corpus, label set, protocol and model; of an ablation it is the report.md
beside its results.json, named by corpus, label set and grid. The speed section is
made of what `python -m bench` has measured, the one on faults of what `make torture`
has counted. Nothing in the sections is typed by hand; a test compares them with what
this program writes.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

from mfhca_train.results.summary import table as scores_table

REPOSITORY = Path(__file__).resolve().parent.parent
STORED = REPOSITORY / "bench" / "results"
MEASURED = REPOSITORY / "bench" / "results.json"
RESULTS = "<!-- results: written by bench/readme.py -->", "<!-- end of results -->"
SPEED = "<!-- speed: written by bench/readme.py -->", "<!-- end of speed -->"
TORTURED = REPOSITORY / "bench" / "torture.json"
TORTURE = "<!-- torture: written by bench/readme.py -->", "<!-- end of torture -->"
DEMO = "<!-- demo: written by bench/readme.py -->", "<!-- end of demo -->"


def name_of(results: dict[str, Any]) -> str:
    """A file name for a run's results."""
    model = results["config"]["model"]
    kind = model["inputs"] if model["inputs"] != "both" else model["fusion"]
    kind += f"-{model['hca']}" if kind == "hca" else ""
    digest = hashlib.sha256(
        json.dumps([results["config"], results["recipes"]], sort_keys=True).encode()
    ).hexdigest()
    return f"{results['corpus']}-{results['label_set']}-{results['protocol']}-{kind}-{digest[:6]}.json"


def section(stored: list[dict[str, Any]], figures: list[dict[str, Any]], reports: dict[str, str]) -> str:
    """The section's text: a table for each corpus and label set, then what was published of it.

    Args:
        stored: results of `cv`.
        figures: published ones.
        reports: report.md of ablations by the name of their file, "<corpus>-<label set>-<grid>.md".
    """
    parts = []
    found = {(r["corpus"], r["label_set"]) for r in stored} | {of(name) for name in reports}
    for corpus, label_set in sorted(found):
        heading = f"**{corpus}, label set `{label_set}`** (in per cent)"
        parts.append(heading)
        parts += [ablation(name, text) for name, text in reports.items() if of(name) == (corpus, label_set)]
        lines = ["| system | WA | UA | score | protocol |", "|---|---|---|---|---|"]
        ours = [r for r in stored if (r["corpus"], r["label_set"]) == (corpus, label_set)]
        lines += [row for results in ours for row in own_rows(results)]
        for f in figures:
            if (f["corpus"], f["label_set"]) == (corpus, label_set):
                ua = f"{f['ua']:.1f}" if "ua" in f else "-"
                lines.append(
                    f"| {f['system']} | {f['wa']:.1f} | {ua} | {f['score']} | {f['protocol']} ({f['source']}) |"
                )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def of(report: str) -> tuple[str, str]:
    """Corpus and label set of a report by its name."""
    corpus, label_set, _ = report.split("-", 2)
    return corpus, label_set


def ablation(name: str, report: str) -> str:
    """What an ablation's report says in words, and its scores."""
    head, *parts = re.split(r"^#+ ", report, flags=re.MULTILINE)[1:]
    title, *preface = head.strip().split("\n\n")
    body = {name: text.strip() for name, text in (part.split("\n", 1) for part in parts)}
    table = "\n".join(line for line in body["Scores"].splitlines() if line.startswith("|"))
    spread = (
        "Mean ± standard deviation over folds, seeds averaged first; per-row tests, pictures and settings:"
    )
    return "\n\n".join(
        [
            f"*{title}.*",
            *(text for text in preface if not text.startswith("**")),  # the report's tiles say what follows
            table,
            f"{spread} [{name}](bench/results/{name}).",
            body["In plain words"],
        ]
    )


def own_rows(results: dict[str, Any]) -> list[str]:
    """Two rows of one run: pooled over all utterances with its interval, and the mean of the folds with its spread."""
    model, train = results["config"]["model"], results["config"]["train"]
    what = {"both": f"fusion {model['fusion']}", "ssl": "hidden states alone", "spec": "spectrogram alone"}[
        model["inputs"]
    ]
    what += f" ({model['hca']})" if model["inputs"] == "both" and model["fusion"] == "hca" else ""
    how = (
        f"{results['protocol']}, {results['n_folds']} folds, {len(results['seeds'])} seed(s), "
        f"lr {train['lr']:g} {train['schedule']}, batch {train['batch_size']}, at most {train['epochs']} epochs"
    )
    pooled = " | ".join(
        f"**{100 * results[s]['pooled']:.1f}** ({100 * results[s]['pooled_ci95'][0]:.1f} to "
        f"{100 * results[s]['pooled_ci95'][1]:.1f})"
        for s in ("wa", "ua")
    )
    mean = " | ".join(f"{100 * results[s]['mean']:.1f} ± {100 * results[s]['std']:.1f}" for s in ("wa", "ua"))
    return [
        f"| this project, {what} | {pooled} | pooled, approximate 95 % by speaker | {how} |",
        f"| | {mean} | mean ± sd over folds | |",
    ]


def speed(measured: dict[str, Any]) -> str:
    """The figures that have a target, the cost of a segment by the size of the corpus, and the machine."""
    if not measured["sections"]:
        return "Not measured yet: `make bench` does it."
    machine = measured["machine"]
    parts = []
    if measured["quick"]:
        parts.append(
            "**A shrunken run (`--quick`) that only tries the programs out: these figures mean nothing.**"
        )
    parts.append(
        f"Medians and range on {machine['processor']}, {machine['cores']} cores ({machine['instruction sets']}; "
        f"bfloat16 {machine['bfloat16']}), {machine['memory']}, torch {machine['torch']}:"
    )
    lines = ["| what | measured | target | |", "|---|---|---|---|"]
    for found in measured["sections"].values():
        if "failed" in found:
            lines.append(f"| *{found['title']}: failed* | | | |")
        lines += [
            f"| {f['what']} | {f['measured_text']} | {f['target_text']} | {f['verdict']} |"
            for f in found["figures"]
            if f["target"]
        ]
    parts.append("\n".join(lines))
    scale = measured["sections"].get("scale", {"tables": [], "notes": []})
    for table in scale.get("tables", []):
        columns = table["columns"]
        lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(row) + " |" for row in table["rows"]]
        parts += [f"{table['title']}, spectrograms only:", "\n".join(lines)]
    parts += [textwrap.fill(note, 118) for note in scale.get("notes", [])]
    return "\n\n".join(parts)


def torture(found: dict[str, Any] | None) -> str:
    """What was done to a cache and to runs, and what was lost: faults of one family in one row."""
    if found is None:
        return "Not measured yet: `make torture` does it."
    machine, tried = found["machine"], found["tried"]
    families: dict[str, list[dict[str, Any]]] = {}
    for line in found["faults"]:
        families.setdefault(line["family"], []).append(line)
    rows = ["| what goes wrong | what is promised | tried | losses |", "|---|---|---|---|"]
    left = 0
    for family, lines in families.items():
        count, losses = (sum(line[name] for line in lines) for name in ("tried", "losses"))
        skipped = next((f" ({line['skipped']})" for line in lines if line["skipped"]), "")
        rows.append(f"| {family} | {lines[0]['promise']} | {count}{skipped} | {losses} |")
        left += sum(int(n) - int(k) for k, n in (line["trials"].split(" of ") for line in lines))
    counts = ", ".join(f"{count} {name}".replace("full disk", "full disks") for name, count in tried.items())
    head = (
        f"`make torture` does this to real commands on real files and compares what comes out, byte for byte, with "
        f"what undisturbed commands make: {counts}; {found['losses']} losses, in {found['seconds'] / 60:.0f} minutes "
        f"on {machine['processor']}, {machine['cores']} cores."
    )
    if left:
        head += f" **Not complete: {left} trials are left.**"
    return f"{textwrap.fill(head, 118)}\n\n" + "\n".join(rows)


def updated(readme: str) -> str:
    """The README with its section made anew."""
    everything = [json.loads(path.read_text()) for path in sorted(STORED.glob("*.json"))]
    stored = [results for results in everything if results["corpus"] != "demo"]
    figures = tomllib.loads((REPOSITORY / "manifests" / "published.toml").read_text())["figure"]
    demo = "\n\n".join(scores_table(results) for results in everything if results["corpus"] == "demo")
    readme = between(readme, DEMO, textwrap.indent(demo, "    "))
    reports = {path.name: path.read_text(encoding="utf-8") for path in sorted(STORED.glob("*.md"))}
    readme = between(readme, RESULTS, section(stored, figures, reports))
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {"sections": {}}
    readme = between(readme, SPEED, speed(measured))
    return between(readme, TORTURE, torture(json.loads(TORTURED.read_text()) if TORTURED.exists() else None))


def between(text: str, marks: tuple[str, str], content: str) -> str:
    """`text` with what stands between two marks replaced."""
    head, rest = text.split(marks[0])
    _, tail = rest.split(marks[1])
    return f"{head}{marks[0]}\n\n{content}\n\n{marks[1]}{tail}"


def main() -> None:
    """Copies the given results, then rewrites the section."""
    STORED.mkdir(exist_ok=True)
    for argument in sys.argv[1:]:
        results = json.loads(Path(argument).read_text())
        if not results["complete"]:
            raise SystemExit(f"{argument}: not all folds and rows are there; run without --fold and --row")
        if "rows" in results:
            name = f"{results['corpus']}-{results['label_set']}-{results['grid']}.md"
            shutil.copyfile(Path(argument).with_name("report.md"), STORED / name)
            continue
        (STORED / name_of(results)).write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    readme = REPOSITORY / "README.md"
    readme.write_text(updated(readme.read_text()))


if __name__ == "__main__":
    main()
