"""The figures of a report as files for papers and slides: SVG with outlined text, PDF with embedded fonts, PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mfhca_cache.common.files import read_text, write_atomically
from mfhca_train.report.blocks import Figure
from mfhca_train.report.plots.svg import style

FORMATS = ("svg", "pdf", "png")
DOTS = 300  # per inch, of a PNG
CAPTIONS = "captions.md"
FIGURES = "figures"  # the folder in a run whose figures are written again with its report
# Equal figures give equal bytes: no time, and no version of the program that drew them.
NO_DATE: dict[str, dict[str, Any]] = {
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
    "png": {"Software": None},
}


def format_of(folder: Path) -> str | None:
    """The format of the figures that an earlier call has written into a folder; None if it has none."""
    if not (folder / CAPTIONS).is_file():
        return None
    return next((form for form in FORMATS if any(folder.glob(f"*.{form}"))), None)


def write_figures(folder: Path, figures: Iterable[Figure], form: str) -> dict[str, Path]:
    """Writes every figure, in light colours on white, and a list of their captions.

    Figures of this format that an earlier list names and this one does not are removed: they may be of another run.

    Args:
        folder: where; it is made if it does not exist.
        figures: of a report.
        form: one of FORMATS.

    Returns:
        The file of each figure by the name of its picture.

    Raises:
        MfhcaError: a file cannot be written.
    """
    written: dict[str, Path] = {}
    captions = []
    for figure in figures:
        picture = figure.picture
        if picture.drawn is None:
            continue
        content = io.BytesIO()
        with style({"svg.fonttype": "path", "pdf.fonttype": 42, "svg.hashsalt": picture.name}):
            picture.drawn.savefig(content, format=form, dpi=DOTS, metadata=NO_DATE[form])
        written[picture.name] = folder / f"{picture.name}.{form}"
        write_atomically(written[picture.name], content.getvalue())
        captions.append(f"- `{picture.name}.{form}`: {figure.caption or picture.title + '.'}")
    if (folder / CAPTIONS).is_file():
        earlier = re.findall(r"^- `([^`/\\]+)`:", read_text(folder / CAPTIONS), re.MULTILINE)
        for name in {*earlier} - {path.name for path in written.values()}:
            if name.endswith(f".{form}"):
                (folder / name).unlink(missing_ok=True)
    write_atomically(folder / CAPTIONS, "\n".join(captions) + "\n")
    return written
