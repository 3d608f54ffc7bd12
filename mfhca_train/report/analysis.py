"""The sections on what trained networks do: what their features look like, and what they attend to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mfhca_cache.common.text import plural
from mfhca_train.analysis.stored import FILE, Analysis, is_current, read
from mfhca_train.report.blocks import Cells, Figure, Table
from mfhca_train.report.plots.analysis import example_picture, feature_picture
from mfhca_train.report.rows import mark_of, quoted
from mfhca_train.report.text import mean_and_sd, names, score, signed
from mfhca_train.results.record import Record

MOST_PICTURES = 12  # of further rows
NO_WEIGHTS = "none; all frames have the same weight"
NOT_SHOWN = "not shown, because the fusion does not say over what its weights are spread"


class Analyses:
    """The stored analyses of the rows of a run.

    Attributes:
        stored: row -> analysis, the reference first; rows without one are left out.
        outdated: titles of the rows whose folds have changed since their analysis.
        pair: the first row with HCA, and the row without it that differs from it in the fewest settings.
    """

    def __init__(self, run: Path, record: Record) -> None:
        self.record = record
        self.stored: dict[str, Analysis] = {}
        self.outdated: list[str] = []
        for name in sorted(record.rows, key=lambda name: name != record.reference):
            path = run / name / FILE
            if not path.exists():
                continue
            analysis = read(path)
            if is_current(analysis, run / name, record.rows[name].n_folds):
                self.stored[name] = analysis
            else:
                self.outdated.append(self.title(name))
        self.pair = self._pair()

    def title(self, name: str) -> str:
        """The title of a row, which may have been removed from the run."""
        return self.record.rows[name].marked_title

    def mark(self, name: str) -> str:
        """The warning above the row's pictures."""
        return mark_of(self.record.rows[name])

    def _pair(self) -> list[str]:
        both = [
            name for name, one in self.stored.items() if one.summary["config"]["model"]["inputs"] == "both"
        ]
        with_hca = [name for name in both if self.stored[name].summary["config"]["model"]["fusion"] == "hca"]
        if not with_hca:
            return list(self.stored)[:1]
        config = self.stored[with_hca[0]].summary["config"]
        others = [
            (_count_differences(config, self.stored[name].summary["config"]), k, name)
            for k, name in enumerate(self.stored)
            if name in both and name not in with_hca
        ]
        return [with_hca[0], *([min(others)[2]] if others else [])]

    def selected_by(self, name: str) -> str:
        """“Of” which row fold and examples were selected, if there are several rows."""
        origin = self.stored[name].summary["origin"]["chosen_by"]
        several = len(self.record.rows) > 1 and origin in self.record.rows
        return f" of {quoted(self.record.rows[origin])}" if several else ""

    def features(self) -> dict[str, Any] | None:
        """t-SNE of the features of the pair, and of further rows; silhouettes of all rows."""
        if not self.stored:
            return None
        ordered = [*reversed(self.pair), *(name for name in self.stored if name not in self.pair)]
        drawn = [name for name in ordered if "points.coordinates" in self.stored[name].arrays]
        figures = {
            name: Figure(
                feature_picture(self.stored[name], f"tsne-{name}", self.title(name), self.mark(name)),
                f"Features of {self.title(name)} by t-SNE. {self._speakers(name)}",
            )
            for name in drawn[: MOST_PICTURES + len(self.pair)]
        }
        rows: list[Cells] = [
            [
                self.title(name),
                *(
                    mean_and_sd([fold["silhouette"][key] for fold in one.summary["folds"]])
                    for key in ("class_test", "class_unseen", "speaker_unseen")
                ),
                len(one.summary["folds"]),
            ]
            for name, one in self.stored.items()
        ]
        first = self.stored[self.pair[0]]
        head = [
            "Row",
            "Emotions, test speakers",
            "Emotions, unseen speakers",
            "Speakers, unseen speakers",
            "Folds",
        ]
        return {
            "outdated": self.outdated,
            "dimensions": first.arrays["points.features"].shape[1],
            "fold": first.summary["fold"],
            "selected_by": self.selected_by(self.pair[0]),
            "figures": [figure for name, figure in figures.items() if name in self.pair],
            "others": [figure for name, figure in figures.items() if name not in self.pair],
            "not_drawn": [self.title(name) for name in self.stored if name not in drawn],
            "silhouettes": Table("silhouettes of the features", head, rows, numbers=range(1, 5)),
        }

    def _speakers(self, name: str) -> str:
        about = self.stored[name].summary
        speakers = about["points"]["speakers"]
        roles = [f"{role} {names(speakers[role])}" for role in ("test", "validation") if speakers[role]]
        return f"Fold {about['fold']}: {'; '.join(roles)}."

    def attention(self) -> dict[str, Any] | None:
        """Attention and gates of every row in numbers; examples of the pair."""
        attending = [name for name, one in self.stored.items() if one.summary["attended"]]
        gated = [name for name, one in self.stored.items() if one.summary["folds"][0]["gates"]]
        examples = [self._examples(name) for name in self._with_examples()]
        if not (attending or gated or examples):
            return None
        kinds: dict[str, list[str]] = {}
        for name, one in self.stored.items():
            kinds.setdefault(_kind_of_weights(one), []).append(self.title(name))
        return {
            "kinds": kinds,
            "attention": _attention_table({self.title(name): self.stored[name] for name in attending}),
            "gates": _gates_table({self.title(name): self.stored[name] for name in gated}),
            "examples": examples,
        }

    def _with_examples(self) -> list[str]:
        return [name for name in self.pair if self.stored[name].summary["examples"]]

    def _examples(self, name: str) -> dict[str, Any]:
        one = self.stored[name]
        return {
            "title": self.title(name),
            "fold": one.summary["fold"],
            "selected_by": self.selected_by(name),
            "waveforms": one.summary["waveforms"],
            "figures": [
                Figure(
                    example_picture(one, k, f"example-{name}-{k + 1}", self.mark(name)),
                    _example_caption(example, one.summary["classes"]),
                )
                for k, example in enumerate(one.summary["examples"])
            ],
        }


def _count_differences(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(a[group].get(name) != b[group].get(name) for group in a for name in {*a[group], *b[group]})


def _kind_of_weights(one: Analysis) -> str:
    """What the attention weights of a row are, as its fusion describes them."""
    model = one.summary["config"]["model"]
    fused = model["inputs"] == "both" and model["fusion"] != "concat"
    return str(one.summary["weights"] or (NOT_SHOWN if fused else NO_WEIGHTS))


def _mean_over_folds(one: Analysis, name: str) -> tuple[float | None, int]:
    """The mean over all folds, each weighted by its number of test segments, and their number."""
    parts = [fold["attention"][name] for fold in one.summary["folds"]]
    count = sum(part["n"] for part in parts)
    return (sum(part["n"] * (part["mean"] or 0.0) for part in parts) / count if count else None), count


def _attention_table(rows: Mapping[str, Analysis]) -> Table:
    lines: list[Cells] = []
    for title, one in rows.items():
        frames, segments = _mean_over_folds(one, "frames")
        mass, padded = _mean_over_folds(one, "mass")
        level, _ = _mean_over_folds(one, "level")
        share, _ = _mean_over_folds(one, "share")
        count = "–" if mass is None else f"{padded:,}"
        lines.append([title, score(frames), signed(level), score(mass), score(share), count, f"{segments:,}"])
    head = [
        "Row",
        "Effective frames, %",
        "Correlation with level",
        "Attention on padding, %",
        "Padded frames, %",
    ]
    head += ["Segments with padding", "Segments"]
    return Table("attention over time", head, lines, numbers=range(1, 7))


def _gates_table(rows: Mapping[str, Analysis]) -> Table:
    lines: list[Cells] = []
    for title, one in rows.items():
        folds = one.summary["folds"]
        for block in range(len(folds[0]["gates"])):
            gates = [fold["gates"][block] for fold in folds]
            low, high = (fmean(gate[end] for gate in gates) for end in ("low", "high"))
            lines.append(
                [
                    title if block == 0 else "",
                    f"GRF {block + 1}",
                    f"{low:.3f} to {high:.3f}",
                    f"{100 * (high - low) / ((high + low) / 2):.0f}" if high + low > 0 else "–",
                    mean_and_sd([gate["spec"]["mean"] for gate in gates]),
                ]
            )
    head = [
        "Row",
        "Block",
        "Gates, 5th to 95th percentile",
        "Range / mean, %",
        "Correlation with the spectrogram",
    ]
    return Table("gates of the GRF blocks", head, lines, numbers=(2, 3, 4))


def _example_caption(example: Mapping[str, Any], classes: Sequence[str]) -> str:
    text = (
        f"{example['utterance']}: labelled {classes[example['label']]}, recognised as "
        f"{classes[example['prediction']]}; probability of the label {example['probability']:.2f}"
    )
    shown = len(example["valid"]["spec"])
    if example["segments"] > shown:
        text += f"; the first {shown} of {plural(example['segments'], 'segment')}"
    return f"{text}."
