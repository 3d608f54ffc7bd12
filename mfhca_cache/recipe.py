"""Recipes: everything that decides the numbers in a cache, its key, and the folder it names.

A recipe holds no path, machine or time, so a moved corpus or a renamed model is
the same recipe. How the numbers are computed is in `spectrum` and `encoder`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from mfhca_cache.errors import MfhcaError
from mfhca_cache.files import canonical_json, read_json, sha256_text, write_json

FORMAT = "mfhca-recipe"
RECIPE_FILE = "recipe.json"
KEY = re.compile(r"[0-9a-f]{16}")
TAILS = ("pad", "overlap", "drop")
DTYPES = ("float16", "float32")
CHOICES = {
    "tail": TAILS,
    "dtype": DTYPES,
    "window": ("hamming-periodic",),
    "db_reference": ("full_scale", "utterance"),
    "compute_dtype": ("float32", "bfloat16"),
}
# The least value that makes sense, by field.
LEAST = {
    "sample_rate": 1,
    "segment_samples": 1,
    "minimum_tail_samples": 0,
    "window_samples": 1,
    "dft": 1,
    "hop_samples": 1,
    "frames": 1,
    "bins": 1,
    "version": 1,
}


class _Recipe:
    """What the kinds of recipe share: checked fields, the dictionary, the key."""

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        # 16000 and 16000.0, -100 and -100.0 must not make two keys of one recipe.
        for field in fields(self):  # type: ignore[arg-type]
            given = getattr(self, field.name)
            object.__setattr__(self, field.name, _typed(f"{self.kind}.{field.name}", str(field.type), given))
        for name, choices in CHOICES.items():
            if getattr(self, name, choices[0]) not in choices:
                raise MfhcaError(
                    f"{self.kind}.{name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}"
                )
        for name, least in LEAST.items():
            if getattr(self, name, least) < least:
                raise MfhcaError(f"{self.kind}.{name} is {getattr(self, name)}, expected {least} or more")

    def to_dict(self) -> dict[str, Any]:
        """Every field and the kind, as plain values."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]

    @property
    def key(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
        return key_of(self.to_dict())


@dataclass(frozen=True)
class LogSpec(_Recipe):
    """The log-magnitude spectrogram of the paper's section III.A, one (frames, bins) array a segment."""

    kind: ClassVar[str] = "logspec"

    sample_rate: int = 16000  # Hz; III.A
    segment_samples: int = 48000  # 3 s; III.A
    tail: str = "pad"  # what becomes of the last, short segment: pad | overlap | drop; III.A pads
    minimum_tail_samples: int = 0  # a shorter tail is dropped (unless it is all there is); our choice
    window: str = "hamming-periodic"  # III.A says Hamming; periodic is our choice
    window_samples: int = 640  # 40 ms; III.A
    dft: int = 800  # points; III.A
    hop_samples: int = 160  # 10 ms; III.A
    frames: int = 300  # 3 s / 10 ms
    bins: int = 200  # III.A: the first 200 points, 0-4 kHz
    floor_db: float = -100.0  # dB; our choice
    db_reference: str = "full_scale"  # 0 dB is full_scale, or the loudest value of the utterance; our choice
    pre_emphasis: float = 0.0  # coefficient; the released code uses 0.97, the paper names none
    dtype: str = "float16"  # as stored
    version: int = 1  # of the code: raised when the same fields give other numbers

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window_samples > self.dft:
            raise MfhcaError(
                f"logspec.window_samples is {self.window_samples}, expected at most dft = {self.dft}"
            )
        if self.bins > self.dft // 2 + 1:
            raise MfhcaError(f"logspec.bins is {self.bins}, a DFT of {self.dft} has {self.dft // 2 + 1}")


@dataclass(frozen=True)
class Ssl(_Recipe):
    """A hidden layer of a frozen speech encoder, one (frames, width) array a segment.

    The frame shape follows from the weights, so it stands in recipe.json beside the recipe.
    """

    kind: ClassVar[str] = "ssl"

    weights_sha256: str  # hexadecimal
    config_sha256: str  # hexadecimal
    normalise: bool  # as the checkpoint's own preprocessor asks
    attention_mask: bool  # likewise
    sample_rate: int = 16000  # Hz
    segment_samples: int = 48000  # 3 s; III.A
    tail: str = "pad"  # pad | overlap | drop; III.A pads
    minimum_tail_samples: int = 0  # a shorter tail is dropped (unless it is all there is); our choice
    pre_emphasis: float = 0.0  # coefficient
    layer: int = -1  # index into the hidden states; -1 is the final one
    compute_dtype: str = "float32"  # float32 | bfloat16; float16 inference can give NaN
    attention: str = "sdpa"  # the implementation: it decides last bits
    dtype: str = "float16"  # as stored
    version: int = 1  # of the code: raised when the same fields give other numbers


Recipe = LogSpec | Ssl
KINDS: dict[str, type[LogSpec] | type[Ssl]] = {LogSpec.kind: LogSpec, Ssl.kind: Ssl}


@dataclass(frozen=True)
class RecipeFolder:
    """A recipe's folder in a cache, as its recipe.json describes it."""

    path: Path
    name: str  # cosmetic: the folder's name without the key
    key: str
    kind: str
    recipe: dict[str, Any]  # as written, perhaps by a later version of this program
    frame_shape: tuple[int, int]  # (T, F): frames of a segment, values of a frame


def recipe_key(recipe: Recipe) -> str:
    """The key of a recipe: 16 hexadecimal digits, equal for equal recipes.

    >>> recipe_key(LogSpec()) == recipe_key(LogSpec(floor_db=-100)) != recipe_key(LogSpec(floor_db=-80))
    True
    """
    return recipe.key


def key_of(recipe: Mapping[str, Any]) -> str:
    """The key of a recipe given as a dictionary."""
    return sha256_text(canonical_json(dict(recipe)))[:16]


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `to_dict` was asked for.

    Raises:
        MfhcaError: unknown kind, or fields that this version does not know or lacks.
    """
    kind = KINDS.get(str(values.get("kind")))
    if kind is None:
        raise MfhcaError(f"recipe kind {values.get('kind')!r} is unknown, expected one of {', '.join(KINDS)}")
    given = {name: value for name, value in values.items() if name != "kind"}
    odd = sorted(set(given) ^ {field.name for field in fields(kind)})
    if odd:
        raise MfhcaError(f"a {kind.kind} recipe of another version: its fields differ in {', '.join(odd)}")
    return kind(**given)


def ssl_name(backbone: str) -> str:
    """The cosmetic name of a backbone's recipe: "ssl-" and the last part of its path or hub id.

    >>> ssl_name("facebook/hubert-base-ls960"), ssl_name("models/my hubert/")
    ('ssl-hubert-base-ls960', 'ssl-my_hubert')
    """
    last = Path(backbone).name or Path(backbone).resolve().name
    return "ssl-" + (re.sub(r"[^A-Za-z0-9._-]+", "_", last).strip("._-")[:100] or "model")


def folder_for(cache: Path, recipe: Recipe, name: str | None = None) -> Path:
    """The folder of a recipe: the one that carries its key, whatever its name, else the path for a new one.

    Args:
        cache: the cache folder, which need not exist.
        recipe: the recipe.
        name: cosmetic name for a new folder; its kind by default.

    Raises:
        MfhcaError: two folders carry the key.
    """
    found = sorted(path for path in cache.glob(f"*-{recipe.key}") if path.is_dir())
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise MfhcaError(f"{cache}: {names} hold the same recipe; delete all but one")
    return found[0] if found else cache / f"{name or recipe.kind}-{recipe.key}"


def write_recipe(folder: Path, recipe: Recipe, frame_shape: tuple[int, int]) -> None:
    """Writes recipe.json into a recipe's folder (made if need be); one that is there is checked.

    Args:
        folder: from `folder_for`.
        recipe: the recipe.
        frame_shape: (T, F), frames of a segment and values of a frame.

    Raises:
        MfhcaError: the folder cannot be written, or holds the recipe with another frame shape.
    """
    if (folder / RECIPE_FILE).exists():
        there = read_recipe(folder)
        if there.frame_shape != tuple(frame_shape):
            raise MfhcaError(
                f"{folder}: holds frames of shape {there.frame_shape}, the recipe now gives {frame_shape}"
            )
        return
    name = folder.name.removesuffix(f"-{recipe.key}")
    value = {"format": FORMAT, "name": name, "recipe": recipe.to_dict(), "frame_shape": list(frame_shape)}
    write_json(folder / RECIPE_FILE, value)


def read_recipe(folder: Path) -> RecipeFolder:
    """Reads recipe.json of a recipe's folder.

    Raises:
        MfhcaError: it is missing, is not what this program writes, or does not agree with the folder's key.
    """
    path = folder / RECIPE_FILE
    value = read_json(path)
    name, _, key = folder.name.rpartition("-")
    remedy = "delete the folder and run `mfhca-cache features` again"
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise MfhcaError(f"{path}: not a recipe of this program; {remedy}")
    recipe, shape = value.get("recipe"), value.get("frame_shape")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("kind"), str):
        raise MfhcaError(f"{path}: holds no recipe; {remedy}")
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n > 0 for n in shape)):
        raise MfhcaError(f"{path}: frame_shape is {shape!r}, expected two whole numbers above 0; {remedy}")
    found = key_of(recipe)
    if found != key:
        raise MfhcaError(
            f"{path}: the recipe has key {found}, its folder says {key}; it was edited: {remedy}"
        )
    return RecipeFolder(folder, name, key, recipe["kind"], recipe, (shape[0], shape[1]))


def explain(here: Recipe | Mapping[str, Any], there: Recipe | Mapping[str, Any]) -> list[str]:
    """In which fields two recipes differ.

    >>> explain(LogSpec(), LogSpec(dft=1024))
    ['dft: 800 here, 1024 there']
    """
    a = here if isinstance(here, Mapping) else here.to_dict()
    b = there if isinstance(there, Mapping) else there.to_dict()
    return [
        f"{name}: {a.get(name, 'nothing')} here, {b.get(name, 'nothing')} there"
        for name in dict.fromkeys([*a, *b])
        if a.get(name) != b.get(name) or (name in a) != (name in b)
    ]


def _typed(name: str, type_name: str, value: Any) -> Any:
    """The value as the field's type, or an error: nothing is rounded, and True is not 1."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if type_name == "float" and number:
        return float(value) + 0.0  # minus zero is zero
    if type_name == "int" and number and value == int(value):
        return int(value)
    if type_name in ("str", "bool") and type(value).__name__ == type_name:
        return value
    raise MfhcaError(f"{name} is {value!r}, expected {type_name}")
