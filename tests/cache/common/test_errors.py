"""Lists of problems in error messages."""

from __future__ import annotations

from mfhca_cache.common.errors import SHOWN, listing


def test_a_list_is_complete_up_to_its_limit_and_counted_above() -> None:
    names = [str(number) for number in range(SHOWN + 3)]
    assert listing(names[:SHOWN]).splitlines() == [f"  {name}" for name in names[:SHOWN]]
    assert listing(names).splitlines()[SHOWN:] == [f"  ... and 3 more ({SHOWN + 3} in total)"]
    assert listing(names, len(names)).count("\n") == len(names) - 1
    assert listing([]) == ""
