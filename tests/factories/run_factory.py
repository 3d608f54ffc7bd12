"""Units of a run made up without training; and a report as its reader meets it."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfhca_cache.common.files import canonical_json, sha256_text
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.data.folds import Fold, make_folds
from mfhca_train.report import details, learning_curves
from mfhca_train.report import scores as score_sections
from mfhca_train.report.blocks import Picture
from mfhca_train.report.page import write_report
from mfhca_train.results.checksums import read_sealed, write_result, write_sealed
from mfhca_train.results.metrics import confusion_matrix, scores
from mfhca_train.results.schema import CV_ROW, unit_folder
from mfhca_train.results.summary import head, read_units, summarise
from mfhca_train.runs.plan import RUN_FORMAT

FOUR = ("anger", "happiness", "neutral", "sadness")
HOSTILE = '<script>alert("x")</script>&$\\frac{'
VOID = {"meta", "br", "hr", "img", "input", "link"}


def make_utterances(
    speakers: Sequence[str], classes: Sequence[str], sessions: bool, each: int
) -> list[Utterance]:
    """`each` utterances of every class from every speaker, two speakers a session, like IEMOCAP's names."""
    return [
        Utterance(
            f"{speaker}_{'impro' if n % 2 else 'script'}01_{k}{n}",
            f"{speaker}/{k}{n}.wav",
            speaker,
            name,
            session=f"Ses{at // 2 + 1:02d}" if sessions else "",
            gender="fm"[at % 2] if sessions else "",
            samples=16000 * (1 + (3 * n + k) % 8),
            sample_rate=16000,
        )
        for at, speaker in enumerate(speakers)
        for k, name in enumerate(classes)
        for n in range(each)
    ]


# Where units were trained, and what run.json says of where a run was begun.
ENVIRONMENT: dict[str, Any] = {"versions": {"torch": "2.8.0"}, "cpu": "x86_64 AVX2", "device": "cpu"}
SURROUNDINGS: dict[str, Any] = {
    "recipe_names": {},
    "data_csv_sha256": "3" * 64,
    **ENVIRONMENT,
    "device": "auto",
}


def edit(path: Path, change: str) -> None:
    """Changes a sealed file by a statement on its content `r`, and gives it a new digest."""
    content = read_sealed(path)
    exec(change, {"r": content})
    write_sealed(path, content)


def reseal(unit: Path) -> None:
    """Gives result.json of a unit the digests of its files as they are now."""
    write_result(unit, read_sealed(unit / "result.json"))


def write_unit(
    folder: Path,
    fold: Fold,
    seed: int,
    utterances: Sequence[Utterance],
    classes: Sequence[str],
    random: np.random.Generator,
    skill: float = 0.7,
    epochs: int = 14,
    stopped_by: str = "patience",
    parameters: dict[str, int] | None = None,
    identity: str = "digest",
) -> None:
    """A finished unit.

    Args:
        skill: how often a made-up prediction is right; negative: wrong.
    """
    folder.mkdir(parents=True)
    tested = [u for u in utterances if u.speaker in fold.test]
    truth = np.array([classes.index(u.emotion) for u in tested])
    guess = np.where(random.random(len(truth)) < skill, truth, random.integers(0, len(classes), len(truth)))
    if skill < 0:
        guess = np.where(random.random(len(truth)) < -skill, (truth + 1) % len(classes), guess)
    confusion = confusion_matrix(truth, guess, len(classes))
    found = scores(confusion)
    length = max(1, epochs - int(random.integers(0, 4)))
    _write_csv(
        folder / "predictions.csv",
        ["utterance", "speaker", "label", "prediction", *(f"logp_{name}" for name in classes)],
        [
            [
                u.utterance,
                u.speaker,
                classes[t],
                classes[g],
                *(-0.1 if k == g else -2.0 for k in range(len(classes))),
            ]
            for u, t, g in zip(tested, truth, guess, strict=True)
        ],
    )
    _write_csv(
        folder / "history.csv",
        ["epoch", "train_loss", "validation_loss", "validation_wa", "validation_ua"],
        [
            [e, 1.4 / e**0.5, 1.3 / e**0.3 + 0.1 * random.random(), *(0.4 + 0.4 * random.random(2))]
            for e in range(1, length + 1)
        ],
    )
    result = {
        "id": fold.id,
        "seed": seed,
        "identity": identity,
        "environment": ENVIRONMENT,
        "test_speakers": list(fold.test),
        "validation_speakers": list(fold.validation),
        "train_speakers": list(fold.train),
        "selected_on": "test" if set(fold.validation) & set(fold.test) else "validation",
        "n_utterances": len(tested),
        "n_segments": 2 * len(tested),
        "wa": found.wa,
        "ua": found.ua,
        "f1": found.f1,
        "recalls": list(found.recalls),
        "classes_absent": [n for n, r in zip(classes, found.recalls, strict=True) if r is None],
        "confusion": confusion.tolist(),
        "best_epoch": max(1, length - 5),
        "epochs": length,
        "stopped_by": stopped_by,
        "validation_wa": 0.5,
        "validation_ua": 0.5,
        "parameters": parameters or {"mf": 54321, "classifier": 33540, "total": 87861},
    }
    (folder / "best.safetensors").touch()  # looked for, not read
    write_result(folder, result)


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


class Page(HTMLParser):
    """The page as a reader meets it: text, tables, and every tag closed where it was opened."""

    def __init__(self, page: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = page.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.tables: list[list[list[str]]] = []
        self.shown: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "pre":
            self.shown.append("")
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "pre" in self.open:  # one text, whatever is marked in it
            self.shown[-1] += data
        elif self.open and self.open[-1] != "style":
            self.shown.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.shown).split())

    def table(self, first_head: str) -> list[list[str]]:
        return next(table for table in self.tables if table[0][0] == first_head)


def report_page(run: Path) -> Page:
    """Writes the report of a run, and reads it as a reader does."""
    return Page(write_report(run))


def section(page: str, name: str) -> str:
    """The HTML of one section of a report."""
    return re.split(r"<h2 id=|<footer", page.split(f'<h2 id="{name}">', 1)[1])[0]


def leave_out_pictures(patch: pytest.MonkeyPatch) -> None:
    """Replaces all pictures of a report, except those of analyses, by empty ones."""
    for module, names in (
        (details, ("confusion_picture", "fold_picture", "reliability_picture", "strip_picture")),
        (learning_curves, ("curve_picture", "curves_picture")),
        (score_sections, ("forest_picture",)),
    ):
        for name in names:
            patch.setattr(module, name, lambda *_: Picture("not drawn", "", ""))


def tree(run: Path) -> dict[str, bytes]:
    """Every visible file of a run but its log, the one place for times."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file()
        and path != run / "log.txt"
        and not any(part.startswith(".") for part in path.relative_to(run).parts)
    }


def make_run(
    run: Path,
    speakers: Sequence[str] = ("03", "08", "09", "10"),
    classes: Sequence[str] = FOUR,
    seeds: int = 1,
    protocol: str = "strict",
    corpus: str = "toy",
    settings: dict[str, Any] | None = None,
    sessions: bool = False,
    chosen: slice = slice(None),
    lacking: str | None = None,
    absent: str | None = None,
    stopped_by: str = "patience",
    each: int = 4,
    epochs: int = 14,
    skill: float = 0.7,
) -> dict[str, Any]:
    """A finished run folder without training; returns results.json.

    Args:
        chosen: which folds are there.
        lacking: a class that the first speaker never shows.
        absent: a class that nobody shows.
        skill: how often a made-up prediction is right.
    """
    config = with_settings(Config(), settings or {})
    utterances = make_utterances(speakers, classes, sessions, each)
    utterances = [u for u in utterances if (u.speaker, u.emotion) != (speakers[0], lacking)]
    utterances = [u for u in utterances if u.emotion != absent]
    folds = make_folds(utterances, protocol, config.train)
    identity = {
        "format": RUN_FORMAT,
        "corpus": corpus,
        "label_set": "four",
        "classes": list(classes),
        "protocol": protocol,
        "config": config.to_dict(),
        "recipes": {"spec": "d8df7b2649005f00", "ssl": "79e523475b60a6af"},
        "data_digest": "0" * 64,
        "features_digest": "4" * 64,
        "label_digest": "1" * 64,
        "folds_digest": "2" * 64,
        "threads": 1,
    }
    digest = sha256_text(canonical_json(identity))
    random = np.random.default_rng(5)
    units = []
    for seed in range(seeds):
        for fold in folds[chosen]:
            folder = unit_folder(run, CV_ROW, seed, fold.id)
            write_unit(
                folder, fold, seed, utterances, classes, random, skill, epochs, stopped_by, None, digest
            )
            units.append(folder)
    write_sealed(run / "run.json", identity | SURROUNDINGS)
    files = read_units(units, digest, classes)
    results = head(identity) | summarise(files, utterances, classes, protocol, len(folds))
    write_sealed(run / "results.json", results)
    return results
