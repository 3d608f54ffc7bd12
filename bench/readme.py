"""Writes the parts of README and docs that hold scores and measurements, from stored results.

    python -m bench.readme [RESULTS_JSON ...]

With arguments, those `results.json` of `cv` or `ablate` are first stored in bench/results/, an ablation together with
its report.md. The page on speed is written from the measurements of `make bench`, the page on robustness from the
counts of `make torture`. No score is typed by hand; a test compares the files with what this program writes.
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

from bench import precision
from bench.scores import Results, details, model_name, overview, table
from mfhca_train.report.terminal import headline, next_steps
from mfhca_train.report.terminal import table as scores_table
from mfhca_train.runs.grid import read_grid

REPOSITORY = Path(__file__).resolve().parent.parent
STORED = REPOSITORY / "bench" / "results"
MEASURED = REPOSITORY / "bench" / "results.json"
TORTURED = REPOSITORY / "bench" / "torture.json"
PUBLISHED = REPOSITORY / "manifests" / "published.toml"
# What is stored of an ablation: enough for the tables; its report.md has the rest.
RUN_FIELDS = ("grid", "title", "note", "corpus", "label_set", "classes", "reference", "optimism")
ROW_FIELDS = (
    *("title", "kind", "protocol", "oracle", "seeds", "n_folds", "n_utterances", "parameters"),
    *("wa", "ua", "f1", "comparison", "ensemble"),
)


def updated() -> dict[Path, str]:
    """The text that each file should have, with its generated sections written again."""
    stored = [
        json.loads(path.read_text(encoding="utf-8")) | {"encoders": encoders_of(path)}
        for path in sorted(STORED.glob("*.json"))
    ]
    demo = [results for results in stored if results["corpus"] == "demo"]
    runs = [results for results in stored if results["corpus"] != "demo"]
    published = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))["figure"]
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {"sections": {}}
    tortured = json.loads(TORTURED.read_text()) if TORTURED.exists() else None
    sections = {
        "README.md": {
            "demo": textwrap.indent("\n\n".join(map(printed, demo)), "    "),
            "results": overview(runs, published),
        },
        "docs/results.md": {
            "results": details(runs, published),
            "precision": precision.section(precision.read()),
        },
        "docs/speed.md": {"speed": speed(measured)},
        "docs/robustness.md": {"torture": torture(tortured)},
    }
    texts = {}
    for name, contents in sections.items():
        path = REPOSITORY / name
        text = path.read_text(encoding="utf-8")
        for mark, content in contents.items():
            text = between(text, mark, content)
        texts[path] = text
    return texts


def printed(results: Results) -> str:
    """What `cv` prints at its end."""
    run = Path("runs") / results["corpus"]
    paths = f"{run / 'results.json'}\n{run / 'report.html'}"
    return "\n".join([headline(results) or "", scores_table(results), paths, next_steps(run)])


def encoders_of(path: Path) -> list[str]:
    """The weights digests of the encoders of a stored run, from the recipes in the report next to it."""
    report = path.with_suffix(".md")
    text = report.read_text(encoding="utf-8") if report.exists() else ""
    return sorted(set(re.findall(r"weights_sha256 = ([0-9a-f]{64})", text)))


def between(text: str, name: str, content: str) -> str:
    """`text` with the section between the two marks of that name replaced."""
    begin, end = f"<!-- {name}: written by bench/readme.py -->", f"<!-- end of {name} -->"
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    return f"{head}{begin}\n\n{content}\n\n{end}{tail}"


def speed(measured: Results) -> str:
    """The measurements that have a target, the cost of a segment by the size of the corpus, and the machine."""
    if not measured["sections"]:
        return "Not measured yet: run `make bench`."
    machine = measured["machine"]
    parts = []
    if measured["quick"]:
        parts.append("**Written by a trial run (`--quick`): these values mean nothing.**")
    parts.append(
        f"Medians and range on {machine['processor']}, {machine['cores']} cores ({machine['instruction sets']}; "
        f"bfloat16 {machine['bfloat16']}), {machine['memory']}, torch {machine['torch']}:"
    )
    rows = []
    for section in measured["sections"].values():
        if "failed" in section:
            rows.append([f"*{section['title']}: failed*", "", "", ""])
        rows += [
            [figure["what"], figure["measured_text"], figure["target_text"], figure["verdict"]]
            for figure in section["figures"]
            if figure["target"]
        ]
    parts.append(table(["what", "measured", "target", ""], rows, 4))
    scale = measured["sections"].get("scale", {"tables": [], "notes": []})
    for content in scale.get("tables", []):
        parts += [f"{content['title']}, spectrograms only:", table(content["columns"], content["rows"])]
    parts += [textwrap.fill(note, 118) for note in scale.get("notes", [])]
    return "\n\n".join(parts)


def torture(counted: Results | None) -> str:
    """What was done to a cache and to runs, and what was lost: faults of one family in one row."""
    if counted is None:
        return "Not measured yet: run `make torture`."
    machine, tried = counted["machine"], counted["tried"]
    families: dict[str, list[Results]] = {}
    for line in counted["faults"]:
        families.setdefault(line["family"], []).append(line)
    rows = []
    left = 0
    for family, lines in families.items():
        count, losses = (sum(line[name] for line in lines) for name in ("tried", "losses"))
        skipped = next((f" ({line['skipped']})" for line in lines if line["skipped"]), "")
        rows.append([family, lines[0]["promise"], f"{count}{skipped}", str(losses)])
        left += sum(int(n) - int(k) for k, n in (line["trials"].split(" of ") for line in lines))
    counts = ", ".join(f"{count} {name}".replace("full disk", "full disks") for name, count in tried.items())
    head = (
        f"`make torture` does this to real commands on real files and compares the result, byte for byte, with that "
        f"of undisturbed commands: {counts}; {counted['losses']} losses, in {counted['seconds'] / 60:.0f} minutes "
        f"on {machine['processor']}, {machine['cores']} cores."
    )
    if left:
        head += f" **Not complete: {left} trials are left.**"
    return (
        f"{textwrap.fill(head, 118)}\n\n{table(['fault', 'what is promised', 'trials', 'losses'], rows, 2)}"
    )


def store(path: Path) -> None:
    """Copies a results.json into bench/results/; of an ablation what the tables need, and its report.md.

    Raises:
        SystemExit: folds are missing. Rows of a grid may be; the page then names them.
    """
    results = json.loads(path.read_text(encoding="utf-8"))
    if not all(row["complete"] for row in results.get("rows", {"": results}).values()):
        raise SystemExit(f"{path}: folds are missing; run again without --fold")
    name = f"{results['corpus']}-{results['label_set']}"
    if "rows" in results:
        name += f"-{results['grid']}"
        rows = {key: {field: row.get(field) for field in ROW_FIELDS} for key, row in results["rows"].items()}
        grid = read_grid(REPOSITORY / f"manifests/ablations/{results['grid']}.toml")
        missing = [row.title for row in grid.trained if row.name not in rows]
        results = {field: results[field] for field in RUN_FIELDS} | {"rows": rows, "missing": missing}
        shutil.copyfile(path.with_name("report.md"), STORED / f"{name}.md")
    else:
        identity = json.dumps([results["config"], results["recipes"]], sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:6]
        name += f"-{results['protocol']}-{model_name(results).replace(' ', '-')}-{digest}"
    STORED.mkdir(exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (STORED / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Stores the given results, then rewrites the sections."""
    for argument in sys.argv[1:]:
        store(Path(argument))
    for path, text in updated().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
