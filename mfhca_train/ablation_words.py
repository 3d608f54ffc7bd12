"""What the terminal's table and the report of an ablation say in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfhca_train.plan import NETWORK


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
            shared.setdefault(tested["seeds"], []).append(f"“{row['title']}”")
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
