"""Identical recordings under two speakers: refused by their files and spans, and by their features."""

from __future__ import annotations

from pathlib import Path

from mfhca_cache.build.plan import Plan
from mfhca_cache.manifest.copies import check_copies, check_overlaps, find_copies
from mfhca_cache.store.recordings import recording_identities
from mfhca_cache.store.shard import read_shard


def check_files(plan: Plan, manifest: Path, accept: bool) -> None:
    """Refuses files with equal bytes and overlapping spans under two speakers, before anything is computed.

    Raises:
        MfhcaError: see `check_copies` and `check_overlaps`.
    """
    sources = plan.sources.available
    digests = {name: source.digest for name, source in sources.items()}
    utterances = [source.utterance for source in sources.values()]
    check_copies(find_copies(utterances, digests), str(manifest), accept)
    check_overlaps(utterances, str(manifest), accept)


def check_features(plan: Plan, manifest: Path, accept: bool) -> None:
    """Refuses recordings with equal samples under two speakers, in whatever formats their files are.

    Args:
        plan: its features are computed.
        manifest: for messages.
        accept: see `check_copies`.

    Raises:
        MfhcaError: see `check_copies`.
    """
    sources = plan.sources.available
    for target in plan.targets[:1]:  # one kind of features is enough
        paths = [target.shard(speaker) for speaker in plan.sources.speakers]
        identities = recording_identities(read_shard(path) for path in paths if path.exists())
        # Copies of files with equal bytes were reported by `check_files`.
        first_of: dict[str, str] = {}
        different = {name: s for name, s in sources.items() if first_of.setdefault(s.digest, name) == name}
        utterances = (source.utterance for source in different.values())
        check_copies(find_copies(utterances, identities), str(manifest), accept)
