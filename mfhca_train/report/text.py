"""Numbers and names as a report shows them. Fractions become percent; minus signs are real ones."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from statistics import fmean, stdev

from mfhca_train.results.schema import LayerWeight, Score


def clean(text: str) -> str:
    """A text without what HTML and XML cannot hold: control characters and halves of surrogate pairs.

    >>> clean("a\\x00b\\tc")
    'a�b c'
    """
    text = re.sub(r"\s", " ", text).encode("utf-8", "replace").decode()
    return re.sub("[\x00-\x1f\x7f-\x9f\ufffe\uffff]", "\ufffd", text)


def names(items: Collection[str]) -> str:
    """Names with commas; a dash for none."""
    return ", ".join(items) or "–"


def count_range(counts: Collection[int]) -> str:
    """Several counts in short.

    >>> count_range([3, 1, 3]), count_range([2]), count_range([])
    ('1 to 3', '2', '')
    """
    return " to ".join(str(count) for count in sorted({min(counts), max(counts)})) if counts else ""


def score(fraction: float | None) -> str:
    """A score in percent, without a sign; a dash for None.

    >>> score(0.74241), score(None)
    ('74.24', '–')
    """
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def mean_sd(one: Score | LayerWeight) -> str:
    """Mean ± standard deviation over the folds, in percent."""
    return score(one.mean) + ("" if one.std is None else f" ± {score(one.std)}")


def interval(ends: Sequence[float] | None) -> str:
    """Two scores in percent, cut at 0 and 1, which a score cannot pass.

    >>> interval([0.5, 1.02]), interval(None)
    ('50.00 to 100.00', '–')
    """
    return "–" if ends is None else " to ".join(score(min(max(end, 0.0), 1.0)) for end in ends)


def points(fraction: float) -> str:
    """A difference of scores in percentage points, with its sign.

    >>> points(0.0312), points(-0.005), points(0.0)
    ('+3.12', '−0.50', '0.00')
    """
    text = signed(100 * fraction)
    return "0.00" if text[1:] == "0.00" else text


def points_interval(ends: Sequence[float] | None) -> str:
    """Both ends of the interval of a difference.

    >>> points_interval([-0.05, 0.012]), points_interval(None)
    ('−5.00 to +1.20', '–')
    """
    return "–" if ends is None else " to ".join(map(points, ends))


def p_value(p: float) -> str:
    """A p value to four decimals.

    >>> p_value(0.03125), p_value(0.00001)
    ('0.0312', '< 0.0001')
    """
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def signed(value: float | None) -> str:
    """Two decimals with a sign; a dash for None."""
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def mean_and_sd(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation; None is left out.

    >>> mean_and_sd([0.1, None, -0.3]), mean_and_sd([None])
    ('−0.10 ± 0.28', '–')
    """
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    text = f"{fmean(known):.2f}" + (f" ± {stdev(known):.2f}" if len(known) > 1 else "")
    return text.replace("-", "−")
