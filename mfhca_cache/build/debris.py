"""Part files that a killed writer left beside a shard that needs nothing any more."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mfhca_cache.build.plan import Plan, state_of
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import lock
from mfhca_cache.store import journal


def tidy(todo: Plan) -> None:
    """Removes the part files of complete shards: their writer was killed between its last two steps.

    What another process holds stays, and a folder that cannot be written stays as it is.

    Args:
        todo: what was planned; whether a shard is complete is looked at again.
    """
    for target in todo.targets:
        if not target.folder.is_dir():
            continue
        there = {path.name for path in target.folder.iterdir() if path.suffix in journal.SUFFIXES}
        for speaker in todo.sources.speakers if there else ():
            shard = target.shard(speaker)
            stem = shard.with_name(f".{shard.name}")
            if there.isdisjoint(path.name for path in journal.paths(stem)):
                continue
            with contextlib.suppress(MfhcaError, OSError), lock(Path(f"{stem}.lock"), str(shard)):
                if state_of(target, speaker, todo.sources).complete:
                    for path in reversed(journal.paths(stem)):
                        path.unlink(missing_ok=True)
