"""Writing a scanned manifest, and the record of the scan next to it.

The record (emodb.scan.json next to emodb.csv) tells whether a manifest has been edited since, and which recordings
have been added to the corpus folder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.files import DELETE_AND_RERUN, read_json, read_text, sha256_text, write_json
from mfhca_cache.common.log import LOG
from mfhca_cache.common.text import first_names, plural
from mfhca_cache.common.typed import Digest, Text, decode, plain
from mfhca_cache.corpora.class_folders import SUFFIXES
from mfhca_cache.corpora.folder import list_folder, walk
from mfhca_cache.manifest.manifest import Manifest, manifest_text, read_manifest, write_manifest
from mfhca_cache.manifest.utterance import Utterance, nfc


class ScanRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a scan found.

    Attributes:
        corpus: as `mfhca-cache manifest` was told.
        root: the absolute path of the corpus folder.
        manifest_sha256: of the manifest's text, as it was written.
        unlisted: the audio files below the root that are not in the manifest, relative to it and sorted; None for a
            table of another tool, for which the root is not scanned.
    """

    corpus: Text
    root: Text
    manifest_sha256: Digest
    unlisted: list[str] | None


def record_path(manifest: Path) -> Path:
    """The file with the record of a manifest's scan."""
    return manifest.with_suffix(".scan.json")


def read_record(manifest: Path) -> ScanRecord | None:
    """The record of a manifest's scan; None if there is none.

    Raises:
        MfhcaError: the record is damaged.
    """
    file = record_path(manifest)
    return decode(file, read_json(file), ScanRecord, DELETE_AND_RERUN) if file.is_file() else None


def save(manifest: Path, corpus: str, root: Path, utterances: Sequence[Utterance], scanned: bool) -> None:
    """Writes a manifest and the record of its scan; what is up to date is left untouched.

    Args:
        manifest: the CSV file to write.
        corpus, root: as `scan.build` takes them.
        utterances: of the manifest.
        scanned: whether the root was scanned, rather than a table read.

    Raises:
        MfhcaError: a file of that name has other rows, and it was not written by a scan or has been edited since;
            or the folder cannot be written.
    """
    new, old = manifest_text(utterances), _text(manifest)
    if old is not None and old != new:
        record = read_record(manifest)
        differences = _differences(manifest, utterances)
        if record is None or record.manifest_sha256 != sha256_text(old):
            reason = "was not written by this command" if record is None else "has been edited since its scan"
            raise MfhcaError(
                f"{manifest}: {reason}, and the scan of {root} differs from it; rename it to keep it, or delete it, "
                f"and run again:\n{listing(differences)}"
            )
        LOG.info(
            "%s: replaced; it was made from %s, from which it differs now:\n%s",
            manifest,
            record.root,
            listing(differences),
        )
    if old == new:
        LOG.info("%s: up to date, not written again", manifest)
    else:
        write_manifest(manifest, utterances)
    listed = {utterance.path for utterance in utterances}
    unlisted = _unlisted(root, listed) if scanned else None
    write_json(
        record_path(manifest), plain(ScanRecord(corpus, str(root.resolve()), sha256_text(new), unlisted))
    )


def report_new_recordings(manifest: Manifest, root: Path, unscanned: bool) -> None:
    """Logs how many audio files of a corpus folder are not in its manifest.

    Of a scanned manifest those count that were added since; the whole root is searched for them. For any other manifest
    only the folders of its own files are searched, because its root may be any folder above them.

    Args:
        manifest: of the corpus.
        root: the corpus folder.
        unscanned: whether to search for a manifest that was not scanned; its author may have left files out.

    Raises:
        MfhcaError: the record of the scan is damaged.
    """
    record = read_record(manifest.path)
    known = None if record is None else record.unlisted
    if known is None and not unscanned:
        return
    listed = {utterance.path for utterance in manifest.utterances}
    try:
        folders = None if known is not None else {path.rpartition("/")[0] for path in listed}
        found = _unlisted(root, listed | set(known or ()), folders)
    except MfhcaError as error:
        LOG.debug("new recordings cannot be searched for: %s", error)
        return
    if not found:
        return
    files = plural(len(found), "audio file")
    if known is None:
        LOG.info("%s has %s that %s does not list: %s", root, files, manifest.path, first_names(found))
    else:
        LOG.warning(
            "%s: %s in %s since its scan (%s); make the manifest again to list them",
            manifest.path,
            files.replace("audio", "new audio"),
            root,
            first_names(found),
        )


def _unlisted(root: Path, listed: Collection[str], folders: Iterable[str] | None = None) -> list[str]:
    """The audio files below a root, or only directly in some of its folders, that are not listed; sorted, in NFC."""
    if folders is None:
        found = {path.relative_to(root).as_posix() for path in walk(root, {}, root, SUFFIXES)}
    else:
        found = {
            f"{folder}/{path.name}".lstrip("/")
            for folder in folders
            for path in list_folder(root / folder)
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        }
    return sorted(name for name in map(nfc, found) if name not in listed)


def _text(manifest: Path) -> str | None:
    """The text of a manifest, or None if there is no such file."""
    return read_text(manifest, "rename or delete it") if manifest.exists() else None


def _differences(manifest: Path, utterances: Iterable[Utterance]) -> list[str]:
    """How the rows of an existing manifest differ from those of a scan."""
    try:
        rows = {row.utterance: row for row in read_manifest(manifest).utterances}
    except MfhcaError as error:
        return str(error).splitlines()
    new = {row.utterance: row for row in utterances}
    lines = [f"{name}: only in the folder" for name in sorted(new.keys() - rows.keys())]
    lines += [f"{name}: only in the manifest" for name in sorted(rows.keys() - new.keys())]
    for name in sorted(new.keys() & rows.keys()):
        before, after = vars(rows[name]), vars(new[name])
        lines += [
            f"{name}: {field} {before[field]!r} in the manifest, {after[field]!r} in the folder"
            for field in before
            if before[field] != after[field]
        ]
    return lines or ["the same utterances, written in another way (order, further columns or line endings)"]
