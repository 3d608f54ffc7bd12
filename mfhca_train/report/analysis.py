"""The sections of a report that show analyses: what features look like; attention is in attention_sections.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfhca_train.analysis.stored import FILE, Analysis, is_current, read
from mfhca_train.report import attention_sections
from mfhca_train.report.attention_sections import oracle, spread
from mfhca_train.report.html import escaped, names, table
from mfhca_train.report.plots.analysis import feature_picture
from mfhca_train.report.words import title_of
from mfhca_train.results.checksums import read_sealed

MOST_PICTURES = 12  # of further rows


def sections(run: Path, rows: Sequence[str]) -> list[tuple[str, str]]:
    """What the stored analyses of a run show.

    Args:
        run: the run folder.
        rows: names, the most important first; those without a analysis are passed over.

    Returns:
        Title and HTML of each section; none where nothing is stored.

    Raises:
        MfhcaError: a analysis is damaged.
    """
    results = read_sealed(run / "results.json")
    found: dict[str, Analysis] = {}
    stale = []
    for name in rows:
        if (run / name / FILE).exists():
            analysis = read(run / name / FILE)
            of_row = results["rows"][name] if "rows" in results else results
            if is_current(analysis, run / name, of_row["n_folds"]):
                found[name] = analysis
            else:
                stale.append(name)
    titles = {name: _title(results, name) for name in rows}
    if not found:
        return []
    note = ""
    if stale:
        note = f"<p>Not shown, for their folds have changed since: {names([titles[n] for n in stale])}. "
        note += "Run the command that trained them again.</p>\n"
    pair = _pair(found)
    shown = [
        ("What the features look like", note + _features(found, titles, pair)),
        ("What the networks attend to", attention_sections.attention(found, titles, pair)),
    ]
    return [(title, body) for title, body in shown if body]


def _title(results: Mapping[str, Any], name: str) -> str:
    return title_of(results["rows"][name] if "rows" in results else {**results, "title": "this network"})


def _both(analysis: Analysis) -> bool:
    return bool(analysis.summary["config"]["model"]["inputs"] == "both")


def _pair(found: Mapping[str, Analysis]) -> list[str]:
    """The first row with HCA, and the one without that differs from it in the fewest settings; or the first row."""
    with_hca = [
        name
        for name in found
        if found[name].summary["config"]["model"]["fusion"] == "hca" and _both(found[name])
    ]
    if not with_hca:
        return [next(iter(found))]
    first = with_hca[0]
    settings = found[first].summary["config"]
    others = [
        (_differences(settings, found[name].summary["config"]), k, name)
        for k, name in enumerate(found)
        if name not in with_hca and _both(found[name])
    ]
    return [first, *([min(others)[2]] if others else [])]


def _differences(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(a[group].get(name) != b[group].get(name) for group in a for name in {*a[group], *b[group]})


def _features(found: Mapping[str, Analysis], titles: Mapping[str, str], pair: Sequence[str]) -> str:
    """t-SNE of the pair, of the others folded away, and the silhouettes of all."""
    first = found[pair[0]]
    ordered = [*reversed(pair), *(name for name in found if name not in pair)]
    drawn = [name for name in ordered if "points.coordinates" in found[name].arrays]
    pictures = {
        name: f"<figure>{feature_picture(found[name], f'tsne{k}', titles[name], oracle(found[name]))}"
        f'<figcaption class="small">{_whose(found[name])}</figcaption></figure>'
        for k, name in enumerate(drawn[: MOST_PICTURES + len(pair)])
    }
    main = "".join(picture for name, picture in pictures.items() if name in pair)
    rest = "".join(picture for name, picture in pictures.items() if name not in pair)
    more = f'<details><summary>The other rows</summary>\n<div class="panels">\n{rest}\n</div></details>'
    lacking = [titles[name] for name in found if name not in drawn]
    head = [
        "Row",
        "Emotions, test speakers",
        "Emotions, unseen speakers",
        "Speakers, unseen speakers",
        "Folds",
    ]
    rows = [
        [
            titles[name],
            *(
                spread([fold["silhouette"][key] for fold in analysis.summary["folds"]])
                for key in ("class_test", "class_unseen", "speaker_unseen")
            ),
            len(analysis.summary["folds"]),
        ]
        for name, analysis in found.items()
    ]
    chosen_by = first.summary["origin"]["chosen_by"]
    whose = f" of “{escaped(titles[chosen_by])}”" if len(found) > 1 and chosen_by in titles else ""
    return f"""<p>An utterance's final features are the numbers that the classifier reads
({first.arrays["points.features"].shape[1]} here; f″<sub>att</sub> of eq. 11, mean over segments). t-SNE lays
them out in the plane so that neighbours stay neighbours; distances between groups, and their sizes, mean nothing. Each
fold has a network of its own, and features of two networks cannot be laid beside each other. So each picture shows
<b>one network, of fold {escaped(first.summary["fold"])}</b>, whose UA is the median of the folds{whose}. From most of
the pale points the network has learned: how well these are separated says little.</p>
<div class="panels">
{main}
</div>
{more if rest else ""}
{f"<p>No picture, for nearly all features are the same: {names(lacking)}.</p>" if lacking else ""}
<p>Pictures mislead. The silhouettes of the features themselves, in all folds, mean ± sd: 1 means groups far apart, 0
groups that touch, below 0 mixed ones. “Unseen” are the test and the validation speakers, from whom the network did not
learn its weights. Good features separate emotions and mix speakers.</p>
{table(head, rows, (), range(1, 5), "silhouettes of the features")}"""


def _whose(analysis: Analysis) -> str:
    speakers = analysis.summary["points"]["speakers"]
    fold = f"Fold {escaped(analysis.summary['fold'])}: "
    return fold + "; ".join(
        f"{role} {names(speakers[role])}" for role in ("test", "validation") if speakers[role]
    )
