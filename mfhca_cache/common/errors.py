"""MfhcaError, the exception for expected failures."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 20


class MfhcaError(ValueError):
    """An expected failure. Its message is one line, or one line and a list, with the cause and the remedy.

    The commands print it without a traceback and exit with code 1. Every other
    exception is a bug and keeps its traceback.
    """


def listing(problems: Sequence[str], limit: int = SHOWN) -> str:
    """The first `limit` problems, one indented line each, and their total number.

    >>> print(listing(["a", "b", "c"], limit=2))
      a
      b
      ... and 1 more (3 in total)
    """
    lines = [f"  {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more ({len(problems)} in total)")
    return "\n".join(lines)
