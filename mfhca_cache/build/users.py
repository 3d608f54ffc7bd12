"""Writing manifests.json in a recipe's folder (see `store.users`), and what follows from it.

With this record `prune` keeps what is used, and `features` does not replace the
features of one corpus by those of another with the same speaker and utterance ids.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from mfhca_cache.build.plan import Plan
from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.files import lock, write_json
from mfhca_cache.common.text import plural
from mfhca_cache.manifest.manifest import read_manifest
from mfhca_cache.store.users import MANIFESTS, User, recorded_users


def record_manifest(folders: Iterable[Path], manifest: Path, root: Path) -> None:
    """Adds a manifest to manifests.json of each recipe's folder; an entry with another root is replaced.

    Raises:
        MfhcaError: the folder cannot be written.
    """
    user = User(manifest.resolve(), root.resolve())
    for folder in folders:
        while user not in recorded_users(folder):
            try:
                # Two runs with two manifests may record them at the same time: without the lock one would be lost.
                with lock(folder / f".{MANIFESTS}.lock", str(folder / MANIFESTS)):
                    others = {u for u in recorded_users(folder) if u.manifest != user.manifest}
                    value = [
                        {"manifest": str(u.manifest), "root": str(u.root)} for u in sorted({*others, user})
                    ]
                    write_json(folder / MANIFESTS, value)
            except MfhcaError as error:
                if not isinstance(error.__cause__, BlockingIOError):
                    raise
                time.sleep(0.05)


def check_replaced_rows(plan: Plan, manifest: Path, root: Path) -> None:
    """Refuses to replace features that a recorded manifest uses with another corpus root, or of other files in it.

    Two corpora (an original and its denoised copy, say) may have the same speaker and utterance ids. In one cache
    they would overwrite each other, and `cv` of the first would read the features of the second. A manifest or root
    that cannot be read may be on a disk that is not mounted: what it uses is unknown, so it counts as used.

    Args:
        plan: the work to do.
        manifest, root: of this run.

    Raises:
        MfhcaError: a row to be replaced belongs, or may belong, to a recorded manifest with another root, or was
            computed from another file and belongs to another manifest with this root.
    """
    for target in plan.targets:
        replaced: set[tuple[str, str]] = set()
        of_other_files: set[tuple[str, str]] = set()
        for speaker in plan.sources.speakers:
            state = plan.states[target.kind, speaker]
            replaced |= {(speaker, name) for name in (*state.stale, *state.moved)}
            cached = state.shard.origins() if state.shard and state.stale else {}
            for name in state.stale:
                origin = plan.sources.available[name].origin
                if replace(origin, audio_sha256=cached[name].audio_sha256) != cached[name]:
                    of_other_files.add((speaker, name))
        for user in recorded_users(target.folder) if replaced else ():
            # The same manifest with another root is another corpus: a denoised copy, say.
            same_root = user.root == root.resolve()
            if same_root and user.manifest == manifest.resolve():
                continue
            found = "" if user.root.is_dir() else " (which cannot be found now)"
            asked, other = replaced, f"audio in {root} than in {user.root}{found}, where"
            if same_root:
                asked, other = of_other_files, f"files in {root} than the features, and"
            use = "uses them under the same ids"
            try:
                used = {(row.speaker, row.utterance) for row in read_manifest(user.manifest).utterances}
            except MfhcaError:
                used, use = asked, "may use them (it cannot be read now)"
            conflicts = sorted(f"speaker {speaker}: {name}" for speaker, name in asked & used)
            if conflicts:
                count = plural(len(conflicts), "utterance")
                raise MfhcaError(
                    f"{target.folder}: {count} of {manifest} {'has' if len(conflicts) == 1 else 'have'} other "
                    f"{other} {user.manifest} {use}; choose another --cache, "
                    f"or pass --replace to replace their features:\n{listing(conflicts)}"
                )


def check_meanwhile(plan: Plan, before: Mapping[Path, Collection[User]], root: Path) -> None:
    """Refuses a result that another corpus may have replaced in part: one with the same ids, computed at the same time.

    When both began there was nothing to replace, so `check_replaced_rows` let both pass.

    Args:
        plan: the work that was done.
        before: the recorded manifests by folder, as they were when the plan was made.
        root: of this run.

    Raises:
        MfhcaError: a manifest with another root was recorded since, and has some of the same ids.
    """
    own = {(speaker, name) for speaker, names in plan.sources.speakers.items() for name in names}
    for target in plan.targets:
        for user in recorded_users(target.folder):
            if user in before[target.folder] or user.root == root.resolve():
                continue
            rows = {(row.speaker, row.utterance) for row in read_manifest(user.manifest).utterances}
            if count := len(own & rows):
                raise MfhcaError(
                    f"{target.folder}: meanwhile features of {user.manifest} (audio in {user.root}) were computed in "
                    f"the same cache, with the ids of {plural(count, 'utterance')}; what is there now may be of "
                    "either. Run this command again, with another --cache if it refuses to replace features"
                )
