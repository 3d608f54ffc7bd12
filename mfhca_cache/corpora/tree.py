"""What looking through a corpus folder yields, and the looking that all corpora share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from mfhca_cache.errors import MfhcaError
from mfhca_cache.manifest import Utterance

HIDDEN = "hidden file (macOS leaves ._* and .DS_Store)"
NOT_AUDIO = "not a .wav file"
FOLDER = "folder that holds no utterances"


@dataclass(frozen=True)
class Scan:
    """What was found in a corpus folder; everything that was seen is in one of the three."""

    utterances: tuple[Utterance, ...]  # sorted by name
    ignored: Mapping[str, int] = field(
        default_factory=dict
    )  # reason -> how many files: no data of the corpus
    problems: tuple[str, ...] = ()  # data of the corpus that cannot be used, each by name


def files_in(folder: Path, suffix: str, ignored: Counter[str], otherwise: str) -> list[Path]:
    """The files of one kind that lie directly in a folder.

    Args:
        folder: where to look.
        suffix: how their names end, in any case, e.g. ".wav".
        ignored: counts what else lies there, by reason.
        otherwise: the reason for a file of another kind.

    Returns:
        The files, sorted by name.

    Raises:
        MfhcaError: the folder cannot be read.
    """
    chosen = []
    for entry in entries(folder):
        if entry.name.startswith("."):
            ignored[HIDDEN] += 1
        elif entry.suffix.lower() == suffix:
            chosen.append(entry)
        else:
            ignored[FOLDER if entry.is_dir() else otherwise] += 1
    return chosen


def entries(folder: Path) -> list[Path]:
    """What lies directly in a folder, sorted by name.

    Raises:
        MfhcaError: there is no such folder, or it cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise MfhcaError(
            f"{folder}: not a folder that can be read ({error.strerror}); check --root"
        ) from error


def with_lengths(root: Path, drafts: Iterable[Utterance]) -> tuple[list[Utterance], list[str]]:
    """Reads the length and rate of every utterance's audio from the head of its file.

    Args:
        root: the corpus root.
        drafts: utterances whose paths are files.

    Returns:
        The utterances with `samples` and `sample_rate`, in the same order, without those whose audio cannot
        be used; and a line for each of these.
    """

    import soundfile

    def read(draft: Utterance) -> Utterance | str:
        try:
            info = soundfile.info(str(root / draft.path))
        except (OSError, RuntimeError) as error:  # libsndfile's errors are RuntimeErrors
            return f"utterance {draft.utterance}: {draft.path} is not readable audio ({_reason(error)})"
        if info.frames <= 0:
            return f"utterance {draft.utterance}: {draft.path} holds no samples"
        return replace(draft, samples=info.frames, sample_rate=info.samplerate)

    # A thread waits for the disk (or the network file system) most of the time.
    with ThreadPoolExecutor(max_workers=8) as pool:
        results = list(pool.map(read, drafts))
    good = [result for result in results if isinstance(result, Utterance)]
    return good, [result for result in results if isinstance(result, str)]


def _reason(error: Exception) -> str:
    # libsndfile's message without the path that soundfile puts before it
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
