"""Scores and tests computed again from a run's predictions, without the project's code; and tables of its report."""

from __future__ import annotations

import csv
import itertools
import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import numpy as np
from run_factory import Page
from sklearn.metrics import f1_score, recall_score


def bare(cell: str) -> str:
    """A row's title without its marks."""
    return re.sub(r" ?(reference|oracle)$", "", cell)


def table(page: Page, *head: str) -> dict[str, list[str]]:
    """The body of the first table that begins with these columns, by its first cell."""
    found = next(t for t in page.tables if tuple(t[0][: len(head)]) == head)
    return {bare(row[0]): row[1:] for row in found[1:]}


def predictions(run: Path, row: str) -> dict[tuple[int, str], list[tuple[str, str, str, str]]]:
    """(seed, fold) -> utterance, speaker, label, prediction, read without the project's code."""
    found = {}
    for path in sorted((run / row).glob("seed-*/fold-*/predictions.csv")):
        with open(path, newline="") as file:
            lines = [tuple(line) for line in csv.reader(file)][1:]
        found[int(path.parts[-3][5:]), path.parts[-2][5:]] = lines
    return found  # type: ignore[return-value]


def judged(lines: list[tuple[str, str, str, str]]) -> dict[str, float]:
    """WA, UA and F1 over the classes present, by scikit-learn."""
    truth, guess = [line[2] for line in lines], [line[3] for line in lines]
    present = sorted(set(truth))
    return {
        "wa": float(np.mean([t == g for t, g in zip(truth, guess, strict=True)])),
        "ua": float(recall_score(truth, guess, labels=present, average="macro", zero_division=0)),
        "f1": float(f1_score(truth, guess, labels=present, average="macro", zero_division=0)),
    }


def by_speaker(run: Path, row: str, score: str, seeds: Collection[int] | None = None) -> dict[str, float]:
    """Means over these seeds, by default all."""
    found = defaultdict(list)
    for (seed, fold), lines in predictions(run, row).items():
        if seeds is None or seed in seeds:
            found[fold].append(judged(lines)[score])
    return {fold: float(np.mean(values)) for fold, values in found.items()}


def exact_p(differences: np.ndarray) -> float:
    """Two-sided, every sign pattern, written out."""
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    return float(np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12))


def holm(values: list[float]) -> list[float]:
    """From the definition: the largest of the scaled p values up to each rank."""
    order = np.argsort(values)
    scaled = [(len(values) - k) * values[i] for k, i in enumerate(order)]
    return [min(1.0, max(scaled[: list(order).index(i) + 1])) for i in range(len(values))]


def signed(fraction: float) -> str:
    text = f"{100 * fraction:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def p_text(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def markdown_tables(text: str) -> list[list[int]]:
    """How many cells each line of each table has; an escaped bar is none."""
    blocks = [block.splitlines() for block in text.split("\n\n")]
    return [
        [len(re.findall(r"(?<!\\)\|", line)) for line in block] for block in blocks if block[0][:1] == "|"
    ]
