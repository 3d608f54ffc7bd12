"""Renders the parts of a report as Markdown, from the same templates as html.py; a picture becomes a link to its
file, or its description."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mfhca_train.report.blocks import AnyCell, Figure, Table, Tile, as_cell
from mfhca_train.report.html import Caller, Html, _one_line
from mfhca_train.report.text import clean

SPECIAL = re.compile(r"([\\`*\[\]<>|~]|(?<![^\W_])_|_(?![^\W_]))")
BLOCK_START = re.compile(r"^(#|[-+>]|\d+[.)])(?=\s|$)")


class Markdown:
    """Every method returns Markdown as Markup, which says that it is not to be escaped again."""

    extension = "md"

    def __init__(self, files: Mapping[str, str] | None = None) -> None:
        """Args: files: of the figures, by the name of the picture, relative to the Markdown."""
        self.files = files or {}

    @staticmethod
    def text(value: Any) -> Markup:
        """A value as Markdown text.

        >>> str(Markdown.text("a*b"))
        'a\\\\*b'
        """
        return (
            value
            if isinstance(value, Markup)
            else Markup(SPECIAL.sub(r"\\\1", " ".join(clean(str(value)).split())))
        )

    @staticmethod
    def raw(value: str) -> Markup:
        """A text that is in this format already."""
        return Markup(value)

    def strong(self, value: Any) -> Markup:
        """In bold."""
        return Markup(f"**{self.text(value)}**")

    def code(self, value: Any) -> Markup:
        """In the letters of code."""
        text = clean(str(value))
        fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
        space = " " if "`" in text else ""
        return Markup(f"{fence}{space}{text}{space}{fence}")

    def paragraph(self, kind: str = "", caller: Caller = str) -> Markup:  # noqa: ARG002, as in html.py
        """A paragraph, which must not begin like a list or a heading."""
        text = BLOCK_START.sub(r"\\\1", _one_line(caller()))
        return Markup(f"{text}\n\n" if text else "")

    def banner(self, head: str, caller: Caller = str) -> Markup:
        """A warning that must not be missed."""
        return Markup(f"> {self.strong(head)} {_one_line(caller())}\n\n")

    note = banner

    def heading(self, title: str) -> Markup:
        """Of a part of a section."""
        return Markup(f"### {self.text(title)}\n\n")

    def items(self, caller: Caller) -> Markup:
        """A list of what `item` returns."""
        body = "\n".join(filter(None, (line.strip() for line in str(caller()).splitlines())))
        return Markup(f"{body}\n\n" if body else "")

    def item(self, caller: Caller) -> Markup:
        """One entry of a list."""
        return Markup(f"- {_one_line(caller())}\n")

    def folded(self, title: str, caller: Caller) -> Markup:
        """A part that opens on a click in HTML."""
        return Markup(f"{self.strong(title)}\n\n{caller()}")

    def command(self, line: str) -> Markup:
        """A command to copy."""
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", line)), default=0))
        return Markup(f"{fence}\n{clean(line)}\n{fence}\n\n")

    def show_tiles(self, tiles: Sequence[Tile]) -> Markup:
        """The numbers of the first screen, one per paragraph."""
        parts = []
        for tile in tiles:
            texts = [self.text(tile.value), "; ".join(map(self.text, tile.lines)), self.text(tile.meaning)]
            parts.append(
                f"{self.strong(tile.head + ':')} {'. '.join(text.removesuffix('.') for text in texts if text)}."
            )
        return Markup("\n\n".join(parts) + "\n\n")

    def show_figures(self, figures: Sequence[Figure], wide: bool = False) -> Markup:  # noqa: ARG002, as in html.py
        """What the pictures show, and their captions."""
        parts = []
        for figure in figures:
            title, file = self.text(figure.picture.title), self.files.get(figure.picture.name)
            described = f"{figure.picture.title}. {figure.picture.description}."
            if file is None:
                parts.append(f"*Picture (see report.html): {self.text(described)}*")
            else:
                parts.append(f"{'' if file.endswith('.pdf') else '!'}[{title}](<{file}>)")
            parts += [str(self.text(figure.caption))] if figure.caption else []
        return Markup("".join(f"{part}\n\n" for part in parts))

    def show_table(self, table: Table) -> Markup:
        """A table; columns without any text, such as bars, are left out."""
        if not table.rows:
            return Markup("")
        foot = [
            [self.strong(cell) if k in table.strong and cell else cell for cell in map(self._cell, row)]
            for k, row in enumerate(table.foot)
        ]
        lines = [[self._cell(cell) for cell in row] for row in (table.head, *table.rows)] + foot
        kept = [k for k, column in enumerate(zip(*lines, strict=True)) if any(column)]
        marks = ["---:" if k in table.numbers else "---" for k in kept]
        shown = [[str(line[k]) for k in kept] for line in lines]
        return Markup(
            "\n".join(f"| {' | '.join(cells)} |" for cells in (shown[0], marks, *shown[1:])) + "\n\n"
        )

    def _cell(self, any_cell: AnyCell) -> Markup:
        cell = as_cell(any_cell)
        text = Markup(self.code(cell.text).replace("|", "\\|")) if cell.code else self.text(cell.text)
        text = self.strong(text) if cell.strong else text
        extra = [f"({self.text(part)})" for part in (cell.warning, cell.tag, cell.detail) if part]
        extra += [f": {self.text(cell.folded)}"] if cell.folded else []
        return Markup(" ".join([text, *extra]).replace(" : ", ": ").strip())


def templates(renderer: Html | Markdown, folder: Path) -> Environment:
    """The templates of a folder, which can call every method of the renderer."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        finalize=renderer.text,  # escapes every value for the format; `Markup` is not escaped again
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {name: getattr(renderer, name) for name in dir(renderer) if name[0] != "_"}
    return environment
