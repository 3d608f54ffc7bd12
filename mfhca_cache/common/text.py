"""Sizes and durations formatted for people."""

from __future__ import annotations

import math


def size_text(count: float) -> str:
    """A number of bytes with a decimal unit.

    >>> size_text(999), size_text(1_530_000)
    ('999 B', '1.5 MB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    power = min(4, int(math.log10(count)) // 3)
    return f"{count / 1000**power:.1f} {' kMGT'[power]}B"


def duration_text(seconds: float) -> str:
    """A number of seconds in hours, minutes and seconds.

    >>> duration_text(3.14159), duration_text(7384)
    ('3.1 s', '2 h 3 min 4 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"
