"""The frame of a report: one HTML page that needs nothing else, and the same in Markdown beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mfhca_cache.common.files import write_atomically
from mfhca_train.report.html import Markup, escaped
from mfhca_train.report.markdown import markdown

# The page itself forbids every request; pictures may stand in it as data.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, remark: str, parts: Sequence[str]) -> str:
    """A whole page.

    Args:
        title: the heading.
        remark: what the window's title says besides.
        parts: HTML; empty ones are left out.
    """
    style = (Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    body = "\n".join(filter(None, parts))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escaped(title)}{escaped(remark)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{escaped(title)}</h1>
{body}
</main>
</body>
</html>
"""


def write_page(run: Path, text: str) -> Path:
    """Writes report.html and report.md into a run folder, each whole or not at all.

    Args:
        run: the folder.
        text: of `page`.

    Returns:
        The page's path.

    Raises:
        MfhcaError: the folder cannot be written.
    """
    write_atomically(run / "report.md", markdown(text))
    write_atomically(run / "report.html", text)
    return run / "report.html"


def banner(head: str, rest: str) -> str:
    """A warning that nobody can miss. Both texts are HTML."""
    return f'<p class="banner"><strong>{head}</strong> {rest}</p>'


def contents(sections: Sequence[tuple[str, str]]) -> str:
    """Links to the sections of the page.

    Args:
        sections: id and title.
    """
    links = "\n".join(f'<li><a href="#{name}">{escaped(title)}</a></li>' for name, title in sections)
    return f'<nav aria-label="contents"><ul>\n{links}\n</ul></nav>'


def heading(name: str, title: str, mark: str = "") -> Markup:
    """The heading of a section that `contents` links to."""
    return Markup(f'<h2 id="{name}">{escaped(title)}{mark}</h2>')
