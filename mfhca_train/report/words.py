"""What the terminal's table and the report of an ablation say in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfhca_train.results.schema import NETWORK


def title_of(row: Mapping[str, Any]) -> str:
    """A row's title, with a mark if its epoch was selected on the test speaker.

    >>> title_of({"title": "Peeking", "oracle": True})
    'Peeking (ORACLE)'
    """
    return f"{row['title']} (ORACLE)" if row["oracle"] else str(row["title"])


def untested_oracles(results: Mapping[str, Any]) -> str:
    """Which rows were not tested because they, or the reference alone, are oracles, and why; empty if there are none.

    Args:
        results: the content of an ablation's results.json.
    """
    rows = results["rows"]
    reference = rows.get(results["reference"])
    if reference is None:
        return ""
    apart = [row for row in rows.values() if row["oracle"] != reference["oracle"] and not row["comparison"]]
    if not apart:
        return ""
    which = (
        "the reference did and they did not" if reference["oracle"] else "they did and the reference did not"
    )
    worth = " What it is worth is told by itself, below." if results["optimism"] else ""
    return (
        f"Not tested: {', '.join(f'“{title_of(row)}”' for row in apart)}. Selecting the epoch on the test speaker, as "
        f"{which}, is a matter of the protocol and not of the network.{worth}"
    )


def unequal_seeds(results: Mapping[str, Any]) -> str:
    """Over which seeds rows were compared, where networks have others than the reference; empty where none has.

    Args:
        results: the content of an ablation's results.json.
    """
    rows = results["rows"]
    reference = rows.get(results["reference"])
    if reference is None or reference["kind"] != NETWORK:
        return ""
    shared: dict[int, list[str]] = {}
    for row in rows.values():
        tested = row["comparison"]
        if tested and row["kind"] == NETWORK and row["seeds"] != reference["seeds"] and "seeds" in tested:
            shared.setdefault(tested["seeds"], []).append(f"“{title_of(row)}”")
    if not shared:
        return ""
    parts = [
        f"{', '.join(titles)} over {count} seed{'' if count == 1 else 's'}"
        if count
        else f"{', '.join(titles)} over all seeds of each, for none is in both and nothing can be paired by seed"
        for count, titles in sorted(shared.items(), reverse=True)
    ]
    return (
        "Rows with other seeds than the reference are compared with it over the seeds that both have: "
        f"{'; '.join(parts)}."
    )
