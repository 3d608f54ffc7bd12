"""The pictures of an analysis; how pictures are drawn is in svg.py.

Time runs to the right. Padding is hatched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfhca_train.analysis.attention import gate_map, normalise_weights
from mfhca_train.analysis.stored import TEST, Analysis
from mfhca_train.data.batch import Array
from mfhca_train.report.blocks import Picture
from mfhca_train.report.plots.svg import CLASS_COLOURS, FIRST, INK, MUTED, SECOND, canvas, short, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 3.3  # inches
SHADES = 40  # of a map: more are not visible, and make the page larger
UNITS = {"logspec": "kHz", "logmel": "mel"}  # of the bins, by kind of features


def feature_picture(analysis: Analysis, name: str, title: str, mark: str) -> Picture:
    """t-SNE of a network's final features: the test speakers large, the others pale.

    Args:
        analysis: with coordinates.
        name: of the picture, unique in the page.
        title: shown.
        mark: a warning above the picture, see `rows.mark_of`; empty for none.
    """
    classes = analysis.summary["classes"]
    at, label = analysis.arrays["points.coordinates"], analysis.arrays["points.label"]
    right = analysis.arrays["points.prediction"] == label
    tested = analysis.arrays["points.role"] == TEST
    with canvas(WIDTH, WIDTH + 0.55, mark) as figure:
        from matplotlib.lines import Line2D

        axes = figure.add_subplot(xticks=[], yticks=[])
        axes.set_title(short(title, 44))
        for spine in axes.spines.values():
            spine.set_visible(True)
        handles: list[Any] = []
        for k, emotion in enumerate(classes):
            colour, marker = class_look(k)
            of_class = label == k
            others = at[of_class & ~tested]
            axes.plot(
                *others.T, marker, color=colour, markersize=2.6, alpha=0.35, markeredgewidth=0, linestyle=""
            )
            for hit, fill in ((True, colour), (False, "none")):
                found = at[of_class & tested & (right == hit)]
                axes.plot(*found.T, marker, color=colour, markerfacecolor=fill, markersize=5, zorder=3)
            handles.append(Line2D([], [], color=colour, marker=marker, linestyle="", label=short(emotion)))
        look: dict[str, Any] = {"color": MUTED, "marker": "o", "linestyle": ""}
        handles += [
            Line2D([], [], label="test, recognised", **look),
            Line2D([], [], label="test, mistaken", markerfacecolor="none", **look),
            Line2D([], [], label="other speakers", markersize=2.6, alpha=0.5, markeredgewidth=0, **look),
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=3, handlelength=1.0)
        description = (
            f"{int(tested.sum())} test utterances, {int((tested & right).sum())} of them recognised; "
        )
        description += f"{int((~tested).sum())} of other speakers"
        return svg(figure, name, f"t-SNE of the final features, {title}", description)


def class_look(k: int) -> tuple[str, str]:
    """Colour and marker of a class."""
    return CLASS_COLOURS[k % len(CLASS_COLOURS)], MARKERS[(k + k // len(CLASS_COLOURS)) % len(MARKERS)]


def example_picture(analysis: Analysis, index: int, name: str, mark: str) -> Picture:
    """One utterance: level, attention over time, spectrogram, gates of each block, saliency.

    Args:
        analysis: with examples.
        index: of the example.
        name, mark: as in `feature_picture`.
    """
    about, example = analysis.summary, analysis.summary["examples"][index]
    parts = example_parts(analysis.arrays, index)
    classes = [short(c) for c in about["classes"]]
    taken = (
        ""
        if example["label"] == example["prediction"]
        else f", recognised as {classes[example['prediction']]}"
    )
    seconds, count = about["spec"]["seconds"], len(parts["spec"])
    over_time, is_spectrogram = about["attended"] == "time", about["spec"]["kind"] in UNITS
    blocks = sum(part.endswith("-h") for part in parts)
    heights = [0.5, *([0.75] if over_time else []), 0.8, *[0.55] * blocks, 0.55]
    with canvas(WIDTH, sum(heights) + 0.2 * len(heights) + 0.4, mark) as figure:
        panels = iter(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
        figure.suptitle(
            f"{classes[example['label']]}{taken}",
            x=0.01,
            ha="left",
            fontsize=9,
            color=SECOND if taken else INK,
        ) if not mark else None
        if "wave" in parts:
            _draw_wave(next(panels), parts["wave"], seconds)
        else:
            _draw_level(
                next(panels), parts["level"], seconds, "level, dB" if is_spectrogram else "mean value"
            )
        if over_time:
            _draw_weights(next(panels), parts["weights"], seconds)
        image: dict[str, Any] = {
            "extent": (0, count * seconds, 0, about["spec"]["top_khz"]),
            "unit": UNITS.get(about["spec"]["kind"], "dimension"),
        }
        _draw_map(
            next(panels), parts["spec"], "spectrogram" if is_spectrogram else "features", "gray_r", **image
        )
        for k in range(blocks):
            gates = gate_map(parts[f"gates-{k}-h"], parts[f"gates-{k}-w"])
            _draw_map(
                next(panels),
                gates,
                f"gates of GRF {k + 1}: {gates.min():.3f} to {gates.max():.3f}",
                "cividis",
                **image,
            )
        last = next(panels)
        _draw_map(last, parts["saliency"], "sensitivity (gradient)", "cividis", **image)
        last.set_xlabel("seconds")
        real = example["valid"]["spec"]
        for axes in figure.axes:
            _mark_padding(axes, [n / parts["level"].shape[1] for n in real], seconds)
        description = f"{example['utterance']}, labelled {about['classes'][example['label']]}"
        return svg(
            figure, name, f"Attention on an utterance: {classes[example['label']]}{taken}", description
        )


def example_parts(arrays: Mapping[str, Array], index: int) -> dict[str, Array]:
    """The arrays of one example by their short names."""
    prefix = f"example-{index}."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _draw_wave(axes: Axes, wave: Array, seconds: float) -> None:
    low, high = wave.astype(np.float32).reshape(-1, 2).T
    at = (np.arange(len(low)) + 0.5) * len(wave) * seconds / len(low)
    axes.fill_between(at, low, high, color=MUTED, linewidth=0.4)
    most = float(np.abs(wave.astype(np.float32)).max()) or 1.0
    axes.set_ylim(-1.05 * most, 1.05 * most)
    axes.set_yticks([0])
    axes.set_title("waveform", fontsize=7)


def _draw_level(axes: Axes, level: Array, seconds: float, title: str) -> None:
    values = level.ravel()
    at = (np.arange(len(values)) + 0.5) * len(level) * seconds / len(values)
    axes.fill_between(at, values.min(), values, color=MUTED, alpha=0.6, linewidth=0)
    axes.set_title(title, fontsize=7)
    axes.locator_params(axis="y", nbins=3)


def _draw_weights(axes: Axes, weights: Array, seconds: float) -> None:
    """In multiples of uniform attention; each segment has its own sum."""
    times = (normalise_weights(weights) * weights.shape[1]).ravel()
    edges = np.linspace(0, len(weights) * seconds, len(times) + 1)
    axes.stairs(times, edges, color=FIRST, fill=True, alpha=0.85, linewidth=0)
    axes.axhline(1, color=SECOND, linestyle="--", linewidth=0.9)
    axes.set_title("attention over time, 1 = uniform (dashed)", fontsize=7)
    axes.set_ylim(0)
    axes.locator_params(axis="y", nbins=3)


def _draw_map(
    axes: Axes, maps: Array, title: str, colours: str, extent: tuple[float, float, float, float], unit: str
) -> None:
    """(S, time, frequency): segments one after the other."""
    import matplotlib

    joined = np.concatenate(list(maps.astype(np.float32))).T
    few = matplotlib.colormaps[colours].resampled(SHADES)
    axes.imshow(joined, cmap=few, origin="lower", aspect="auto", extent=extent, interpolation="none")
    axes.set_title(title, fontsize=7)
    if unit == "kHz":
        axes.locator_params(axis="y", nbins=2)
    else:
        axes.set_yticks([])
    axes.set_ylabel(unit, fontsize=7)


def _mark_padding(axes: Axes, real: Sequence[float], seconds: float) -> None:
    """Hatches padding, and separates segments."""
    for k, share in enumerate(real):
        if share < 1:
            axes.axvspan(
                (k + share) * seconds,
                (k + 1) * seconds,
                facecolor="none",
                edgecolor=MUTED,
                hatch="////",
                linewidth=0,
            )
        if k:
            axes.axvline(k * seconds, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, len(real) * seconds)
