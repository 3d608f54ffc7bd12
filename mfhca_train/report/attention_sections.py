"""The section of a report that shows what networks attend to, in figures first and then in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from mfhca_train.analysis.stored import Analysis
from mfhca_train.data.folds import ORACLES
from mfhca_train.report.html import Markup, escaped, names, per_cent, plural, table
from mfhca_train.report.plots.analysis import example_picture

NO_WEIGHTS = "none; all frames count the same"
NOT_SHOWN = "not shown: the fusion does not say what its weights are spread over"


def weights_of(analysis: Analysis) -> str:
    """What the attention weights of a row are, as its fusion describes them."""
    model = analysis.summary["config"]["model"]
    fused = model["inputs"] == "both" and model["fusion"] != "concat"
    return analysis.summary["weights"] or (NOT_SHOWN if fused else NO_WEIGHTS)


def oracle(analysis: Analysis) -> bool:
    """Whether the epoch was selected on the test speaker."""
    return analysis.summary["protocol"] in ORACLES


def spread(values: Sequence[float | None]) -> str:
    """Mean ± sd over folds.

    >>> spread([0.1, None, -0.3]), spread([None])
    ('−0.10 ± 0.28', '–')
    """
    there = [value for value in values if value is not None]
    if not there:
        return "–"
    text = f"{fmean(there):.2f}" + (f" ± {stdev(there):.2f}" if len(there) > 1 else "")
    return text.replace("-", "−")


def _pooled(analysis: Analysis, name: str) -> tuple[float | None, int]:
    """The mean over the test segments of all folds, and how many they are."""
    parts = [fold["attention"][name] for fold in analysis.summary["folds"]]
    count = sum(part["n"] for part in parts)
    return (sum(part["n"] * (part["mean"] or 0.0) for part in parts) / count if count else None), count


def attention(found: Mapping[str, Analysis], titles: Mapping[str, str], pair: Sequence[str]) -> str:
    """Attention and gates of every row in figures; examples of the pair.

    Args:
        found: row -> analysis.
        titles: row -> title.
        pair: the rows whose examples are drawn, the second one folded away.

    Returns:
        HTML; empty if no row attends to anything.
    """
    attending = {name: p for name, p in found.items() if p.summary["attended"]}
    gated = {name: p for name, p in found.items() if p.summary["folds"][0]["gates"]}
    parts = [_weights(attending, found, titles)] if attending else []
    parts += [_gates(gated, titles)] if gated else []
    drawn = [name for name in pair if found[name].summary["examples"]]
    parts += [_examples(found[name], titles, name, k) for k, name in enumerate(drawn)]
    return "\n".join(parts)


def _weights(
    attending: Mapping[str, Analysis], found: Mapping[str, Analysis], titles: Mapping[str, str]
) -> str:
    rows = []
    for name, analysis in attending.items():
        frames, segments = _pooled(analysis, "frames")
        mass, padded = _pooled(analysis, "mass")
        level, _ = _pooled(analysis, "level")
        cells = [titles[name], per_cent(frames), "–" if level is None else f"{level:+.2f}".replace("-", "−")]
        cells += [per_cent(mass), per_cent(_pooled(analysis, "share")[0])]
        rows.append([*cells, "–" if mass is None else f"{padded:,}", f"{segments:,}"])
    head = ["Row", "Effective frames, %", "Follows the level", "On padding, %", "Padding, %"]
    head += ["Segments with padding", "Segments"]
    kinds: dict[str, list[str]] = {}
    for name, analysis in found.items():
        kinds.setdefault(weights_of(analysis), []).append(titles[name])
    readings = "\n".join(f"<li>{names(of)}: {kind}.</li>" for kind, of in kinds.items())
    return f"""<h3>Attention over time</h3>
<p>The weights with which the fusion takes the speech encoder's frames:</p>
<ul>
{readings}
</ul>
{table(head, rows, (), range(1, 7), "attention over time")}
<p class="small">Over the test segments of all folds. “Effective frames”: to how many frames with equal weight the
attention comes (exp of its entropy), in per cent of the real frames. 100 is even attention, which selects nothing; a
small figure means that few frames decide. “Follows the level”: Spearman's correlation of weight and level (dB) over
the real frames of a segment, mean. “On padding”: the share of attention that falls on what fills up short segments, in
those segments alone; even attention would give it its share of the frames, which is under “Padding”.</p>"""


def _gates(gated: Mapping[str, Analysis], titles: Mapping[str, str]) -> str:
    rows = []
    for name, analysis in gated.items():
        folds = analysis.summary["folds"]
        for block in range(len(folds[0]["gates"])):
            gates = [fold["gates"][block] for fold in folds]
            low, high = (fmean(gate[end] for gate in gates) for end in ("low", "high"))
            rows.append(
                [
                    titles[name] if block == 0 else "",
                    f"GRF {block + 1}",
                    f"{low:.3f} to {high:.3f}",
                    f"{100 * (high - low) / ((high + low) / 2):.0f}" if high + low > 0 else "–",
                    spread([gate["spec"]["mean"] for gate in gates]),
                ]
            )
    head = ["Row", "Block", "Gates, 5 to 95 % of places", "Range over mean, %", "Follows the spectrogram"]
    return f"""<h3>Gates over the spectrogram</h3>
<p>Each GRF block scales its map by g_h g_w (eq. 4 to 6), a value for each time and each frequency; here the mean over
channels. If the block finds the places that matter, as the paper says, the gates must differ between places: a range
of a few per cent localises nothing, whatever a picture with stretched colours shows. “Follows”: correlation with the
spectrogram as the network sees it, mean ± sd over folds.</p>
{table(head, rows, (), (2, 3, 4), "gates of the GRF blocks")}"""


def _examples(analysis: Analysis, titles: Mapping[str, str], name: str, index: int) -> str:
    pictures = "\n".join(
        f"<figure>{example_picture(analysis, k, f'example{index}x{k}', oracle(analysis))}"
        f'<figcaption class="small">{_said(analysis, example)}</figcaption></figure>'
        for k, example in enumerate(analysis.summary["examples"])
    )
    panels = f'<div class="panels two">\n{pictures}\n</div>'
    if index:
        return f"<details><summary>The same with “{escaped(titles[name])}”</summary>\n{panels}</details>"
    level = (
        " “Level” is the power of each frame of the spectrogram; with <code>--root</code> it is the waveform."
    )
    level = "" if analysis.summary["waveforms"] else level
    chosen_by = analysis.summary["origin"]["chosen_by"]
    by = f" of “{escaped(titles[chosen_by])}”" if len(titles) > 1 and chosen_by in titles else ""
    return f"""<h3>Examples: {escaped(titles[name])}</h3>
<p>Of each emotion the recognised test utterance with the median probability (of all, where none was recognised), as
the network of fold {escaped(analysis.summary["fold"])}{by} judges them. Hatched is padding; a dotted line divides
segments.{level} The colours of the gates are stretched from their lowest to their highest value, which stand above.
“Sensitivity” says how much a small change at a place of the spectrogram moves the log-probability of the answer
(absolute gradient): a check that does not depend on the gates.</p>
{panels}"""


def _said(analysis: Analysis, example: Mapping[str, Any]) -> Markup:
    classes = analysis.summary["classes"]
    text = f"{example['utterance']}: labelled {classes[example['label']]}, recognised as "
    text += f"{classes[example['prediction']]}; the label's probability {example['probability']:.2f}"
    if example["segments"] > len(example["valid"]["spec"]):
        text += f"; the first {len(example['valid']['spec'])} of {plural(example['segments'], 'segment')}"
    return Markup(escaped(text) + ".")
