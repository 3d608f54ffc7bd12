"""A report's page as Markdown: the same text and tables; a picture becomes its description.

Made from the finished HTML, so that the two cannot differ. It knows the elements that
reports are made of, and nothing of what a run is.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

SKIPPED = {"head", "style", "nav", "script"}
HEADINGS = {"h1": "#", "h2": "##", "h3": "###"}
VOID = {"meta", "br", "img", "hr", "input", "link"}
SPECIAL = re.compile(r"([\\`*\[\]<>|~]|(?<![^\W_])_|_(?![^\W_]))")
BLOCK_START = re.compile(r"^(#|[-+>]|\d+[.)])(?=\s|$)")


def markdown(page: str) -> str:
    """The page as Markdown.

    >>> markdown("<h1>A</h1><p>b <b>c</b> &lt;d&gt;</p>")
    '# A\\n\\nb **c** \\\\<d\\\\>\\n'
    """
    reader = _Reader()
    reader.feed(page)
    reader.close()
    reader.end_block()
    return "\n\n".join(reader.blocks) + "\n"


class _Reader(HTMLParser):
    """Collects blocks; text is gathered in `line` until the element that holds it ends."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[str] = []
        self.open: list[str] = []
        self.line: list[str] = []
        self.rows: list[list[str]] = []
        self.numbers: list[bool] = []
        self.picture: list[str] = []
        self.prefix = ""
        self.tile: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        kind = given.get("class") or ""
        if tag == "br":
            self.line.append(" " if self._in_cell() else "; ")
        elif tag == "img":
            self._end_picture(given.get("alt") or "")
        if tag in VOID:
            return
        self.open.append(tag)
        if self._hidden():
            return
        if tag == "section" and kind == "tile":
            self.tile = []
        elif tag == "small" and self._in_cell():
            self.line.append("(")
        elif tag == "table":
            self.end_block()
            self.rows, self.numbers = [], []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.line = []
            if len(self.rows) == 1:
                self.numbers.append(kind == "n")
        elif tag == "svg":
            self.picture = []
        elif tag in ("p", "h1", "h2", "h3", "pre", "li", "dt", "dd", "figcaption") or (
            tag == "summary" and not self._in_cell()
        ):
            self.end_block()
            self.prefix = HEADINGS.get(tag, "")
            self.prefix = {"banner": ">", "note": ">"}.get(kind, self.prefix) or ("-" if tag == "li" else "")
        elif tag in ("b", "strong"):
            self.line.append("**")
        elif tag == "code":
            self.line.append("`")
        elif tag == "span":
            self.line.append("(")

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        hidden = self._hidden()
        self.open.pop()
        if hidden:
            return
        if tag == "section" and self.tile is not None:
            head, *rest = self.tile
            self.tile = None
            self.blocks.append(f"**{head}:** {'. '.join(rest)}")
        elif tag == "small" and self._in_cell():
            self.line.append(")")
        elif tag == "table":
            self._end_table()
        elif tag in ("td", "th"):
            self.rows[-1].append(self._text())
        elif tag == "svg":
            self._end_picture("".join(self.picture))
        elif tag == "pre":
            self.blocks.append("\n".join(["```", *"".join(self.line).strip().splitlines(), "```"]))
            self.line = []
        elif tag in ("p", "h1", "h2", "h3", "li", "dt", "dd", "figcaption") and not self._in_cell():
            self.end_block()
        elif tag == "summary":
            self.line.append(": ") if self._in_cell() else self.end_block("**")
        elif tag in ("b", "strong"):
            self.line.append("**")
        elif tag == "code":
            self.line.append("`")
        elif tag == "span":
            self.line.append(")")

    def handle_data(self, data: str) -> None:
        if "svg" in self.open:
            if self.open[-1] in ("title", "desc"):
                self.picture.append(f"{data}. ")
        elif not self._hidden():
            plain = {"pre", "code"} & set(self.open)
            self.line.append(
                data.replace("|", "\\|")
                if plain and self._in_cell()
                else data
                if plain
                else SPECIAL.sub(r"\\\1", data)
            )

    def end_block(self, around: str = "") -> None:
        """Makes a block of the text gathered so far."""
        text = self._text()
        if text and self.tile is not None:
            self.tile.append(text.removesuffix("."))
            text = ""
        if text and not self.prefix:
            text = BLOCK_START.sub(r"\\\1", text)
        if text:
            line = f"{self.prefix} {around}{text}{around}".strip()
            if self.prefix == "-" and self.blocks and self.blocks[-1].startswith("- "):
                self.blocks[-1] += f"\n{line}"  # one list
            else:
                self.blocks.append(line)
        self.prefix = ""

    def _text(self) -> str:
        text = " ".join("".join(self.line).split())
        self.line = []
        return text.replace("****", "")

    def _end_picture(self, text: str) -> None:
        self.end_block()
        described = SPECIAL.sub(r"\\\1", " ".join(text.split()))
        self.blocks.append(f"*Picture (see report.html): {described}*")

    def _end_table(self) -> None:
        if self.rows:
            kept = [
                k for k, cells in enumerate(zip(*self.rows, strict=True)) if any(cells)
            ]  # not those of bars
            self.rows = [[row[k] for k in kept] for row in self.rows]
            self.numbers = [self.numbers[k] for k in kept]
            marks = ["---:" if number else "---" for number in self.numbers]
            lines = [self.rows[0], marks, *self.rows[1:]]
            self.blocks.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines))

    def _hidden(self) -> bool:
        return not SKIPPED.isdisjoint(self.open) or ("svg" in self.open and self.open[-1] != "svg")

    def _in_cell(self) -> bool:
        return not {"td", "th"}.isdisjoint(self.open)
