"""The one exception of the project: a failure that was foreseen."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 20


class MfhcaError(ValueError):
    """A foreseen failure. Its message is one line (or one line and a list) that names the culprit and the remedy.

    The commands print it without a traceback and end with exit code 1; anything
    else that is raised is a bug and keeps its traceback.
    """


def listing(problems: Sequence[str], limit: int = SHOWN) -> str:
    """The first `limit` problems, one indented line each, and how many there are in all.

    >>> print(listing(["a", "b", "c"], limit=2))
      a
      b
      ... and 1 more (3 in all)
    """
    lines = [f"  {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more ({len(problems)} in all)")
    return "\n".join(lines)
