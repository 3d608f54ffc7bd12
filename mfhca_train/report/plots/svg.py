"""Confusion matrices and bars of folds, and how every picture of a report is drawn: as SVG inside the page.

Equal data give equal bytes. Text stays text, in the page's font. Colours are drawn as the keys of COLOURS and
replaced by the page's variables, so that one picture serves light, dark and print. Blue and vermilion (Okabe
and Ito) are distinguishable for colour-blind readers, and lines differ in dashes as well. matplotlib is imported
when a picture is drawn.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from mfhca_train.report.blocks import Picture
from mfhca_train.report.text import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, LINE, FIRST, SECOND, ON_FIRST = "#101010", "#707070", "#d0d0d0", "#0072b2", "#d55e00", "#fefefe"
PAPER = "#fdfdfd"
COLOURS = {INK: "ink", MUTED: "muted", LINE: "line", FIRST: "first", SECOND: "second", ON_FIRST: "on-first"}
COLOURS[PAPER] = "paper"
# Of classes, whose markers differ too.
CLASS_COLOURS = (FIRST, SECOND, "#009e73", "#a4478a", "#a87000", "#4f4f4f", "#3f9fdf")
COLOURS |= {colour: f"class-{k}" for k, colour in enumerate(CLASS_COLOURS) if colour not in COLOURS}
LARGEST = 1.5  # CSS pixels for a point: letters of 8 points are then 12 pixels high
LONGEST_LABEL = 14  # characters; the tables have the whole name
MOST_LINES = 40  # more units than this are a band, not lines, and their bars are thinner
MOST_NUMBERED = 12  # classes; in a larger confusion matrix numbers cannot be read
MARKS = (" (ORACLE)", " (transductive)")  # at the end of a title; never cut off
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],  # comes with matplotlib; the page shows its own, narrower one
    "font.size": 8.0,
    "text.parse_math": False,  # a class may be called "$"
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.2,
    "legend.fontsize": 7.5,
}
STYLE_ATTRIBUTE = re.compile(r'style="[^"]*"')


def confusion_picture(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], mark: str, name: str = "confusion"
) -> Picture:
    """The confusion matrix: each row in % as shades and numbers, and the counts.

    Args:
        confusion: (K, K) counts, rows = reference.
        classes: K names.
        mark: a warning above the picture, see `rows.mark_of`; empty for none.
        name: of the picture, unique in the page.
    """
    count = len(classes)
    with canvas(1.1 + 0.42 * count, 1.0 + 0.42 * count, mark) as figure:
        from matplotlib.patches import Rectangle

        axes = figure.add_subplot(aspect="equal", xlim=(0, count), ylim=(count, 0))
        for i, row in enumerate(confusion):
            total = sum(row)
            for j, cell in enumerate(row):
                share = cell / total if total else 0.0
                if share:
                    axes.add_patch(
                        Rectangle((j, i), 1, 1, facecolor=FIRST, alpha=round(share, 4), linewidth=0)
                    )
                if count <= MOST_NUMBERED and total:
                    colour = ON_FIRST if share > 0.6 else INK if cell else MUTED
                    style: dict[str, Any] = {"ha": "center", "color": colour}
                    axes.text(j + 0.5, i + 0.5, f"{100 * share:.0f}%", va="bottom", fontsize=8, **style)
                    axes.text(j + 0.5, i + 0.57, f"{cell}", va="top", fontsize=6.5, **style)
        middles = [k + 0.5 for k in range(count)]
        axes.set_xticks(middles, [short(name) for name in classes], rotation=40, ha="left")
        axes.set_yticks(middles, [short(name) for name in classes])
        axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
        axes.set_xticks(range(count + 1), minor=True)
        axes.set_yticks(range(count + 1), minor=True)
        axes.grid(which="minor")
        axes.tick_params(which="minor", length=0)
        axes.set_ylabel("labelled as")
        axes.set_xlabel("recognised as")
        axes.xaxis.set_label_position("top")
        for spine in axes.spines.values():
            spine.set_visible(False)
        description = "; ".join(
            f"{label}: {row[k] / sum(row):.0%} of {sum(row)} recognised"
            for k, (label, row) in enumerate(zip(classes, confusion, strict=True))
            if sum(row)
        )
        return svg(figure, name, "Confusion matrix", description)


def fold_picture(
    scores: Mapping[str, tuple[float, float]], mean: tuple[float, float], chance: float, mark: str
) -> Picture:
    """WA and UA of every fold as bars.

    Args:
        scores: fold id -> (WA, UA), fractions.
        mean: of the folds.
        chance: UA at chance level.
        mark: as in confusion_picture.
    """
    with canvas(3.5, 0.75 + (0.27 if len(scores) <= MOST_LINES else 0.16) * len(scores), mark) as figure:
        axes = figure.add_subplot(xlim=(0, 100), ylim=(len(scores) - 0.5, -0.5))
        handles: list[Any] = []
        for which, (name, colour, dash) in enumerate((("WA", FIRST, "-"), ("UA", SECOND, "--"))):
            values = [100 * pair[which] for pair in scores.values()]
            at = [k + 0.38 * (which - 0.5) for k in range(len(scores))]
            bars = axes.barh(at, values, height=0.34, color=colour, label=name)
            line = axes.axvline(100 * mean[which], color=colour, linestyle=dash, linewidth=1)
            line.set_label(f"mean {name}")
            handles += [bars, line]
        handles += [
            axes.axvline(100 * chance, color=MUTED, linestyle=":", linewidth=1.2, label="chance level")
        ]
        axes.set_yticks(range(len(scores)), [short(name) for name in scores])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_xlabel("%")
        figure.legend(handles=handles, loc="outside lower left", ncols=3)
        description = "; ".join(f"fold {name}: WA {wa:.1%}, UA {ua:.1%}" for name, (wa, ua) in scores.items())
        return svg(figure, "folds", "WA and UA of every fold", description)


def _import_matplotlib() -> None:
    """Imports matplotlib without MPLBACKEND: Jupyter and Colab set it to a backend that other programs do not have."""
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib  # noqa: F401
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


@contextmanager
def style(settings: Mapping[Any, Any] | None = None) -> Iterator[None]:
    """Our style and further settings, whatever the user's matplotlibrc says."""
    _import_matplotlib()
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        # The page's font draws the text; matplotlib only measures it, and may lack a script's letters.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        matplotlib.rcParams.update(settings or {})
        yield


@contextmanager
def canvas(width: float, height: float, mark: str = "") -> Iterator[Figure]:
    """An empty figure (inches) in our style; with a mark above it."""
    _import_matplotlib()  # before the next line imports it
    from matplotlib.figure import Figure

    with style():
        lines = mark.splitlines()
        figure = Figure(figsize=(width, height + 0.2 * len(lines)))
        if lines:
            figure.suptitle(mark, fontsize=7, color=SECOND, weight="bold")
        yield figure


def svg(figure: Figure, name: str, title: str, description: str) -> Picture:
    """The figure as an element whose ids are its own and whose colours are the page's."""
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = name
    drawn = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(drawn, format="svg", metadata=nothing, transparent=True)
    text = drawn.getvalue()
    body = re.sub(
        r"<metadata>.*?</metadata>", "", text[text.index(">", text.index("<svg")) + 1 :], flags=re.S
    )
    body = body.replace("xlink:href", "href")
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    body = STYLE_ATTRIBUTE.sub(_page_colours, body)
    body = re.sub(r"\s*\n\s*", "\n", body).strip()
    width, height = 72 * figure.get_figwidth(), 72 * figure.get_figheight()
    drawn_as = (
        f'<svg role="img" aria-labelledby="{name}-title {name}-desc" viewBox="0 0 {width:g} {height:g}" '
        f'style="max-width:{LARGEST * width:.0f}px">'
        f'<title id="{name}-title">{escape(clean(title))}</title>'
        f'<desc id="{name}-desc">{escape(clean(description))}</desc>\n{body}'
    )
    return Picture(title, description, drawn_as, name, figure)


def _page_colours(style: re.Match[str]) -> str:
    return re.sub("#[0-9a-f]{6}", lambda c: f"var(--{COLOURS.get(c[0], 'ink')})", style[0])


def short(name: str, longest: int = LONGEST_LABEL) -> str:
    """A name as it fits beside an axis; marks at the end of a title stay.

    >>> short("a very long name"), short("a title that is long (ORACLE)", 20)
    ('a very long n…', 'a title th… (ORACLE)')
    """
    name = clean(name)
    if len(name) <= longest:
        return name
    marks = ""
    while mark := next((mark for mark in MARKS if name.endswith(mark)), ""):
        name, marks = name.removesuffix(mark), mark + marks
    return f"{name[: longest - 1 - len(marks)]}…{marks}"
