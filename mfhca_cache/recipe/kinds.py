"""Recipes: the kinds of features, and every setting that determines their values.

The features are computed in `features.spectrum`, `features.mel` and
`features.encoder`; `folder` derives the folders of a cache from recipes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_text

TAILS = ("pad", "overlap", "drop")
ALL_LAYERS = "all"
DTYPES = ("float16", "float32")
CHOICES = {
    "tail": TAILS,
    "dtype": DTYPES,
    "window": ("hamming-periodic",),
    "mel_scale": ("htk",),
    "db_reference": ("full_scale", "utterance"),
    "compute_dtype": ("float32", "bfloat16"),
}
# The smallest valid value of each field.
MINIMUM = {
    "sample_rate": 1,
    "segment_samples": 1,
    "minimum_tail_samples": 0,
    "window_samples": 1,
    "dft": 1,
    "hop_samples": 1,
    "frames": 1,
    "bins": 1,
    "bands": 1,
    "coefficients": 1,
    "frame_rate": 1,
    "version": 1,
}


@dataclass(frozen=True)
class _Recipe:
    """Base of all recipes: validated fields, conversion to a dictionary, the key."""

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        # 16000 and 16000.0, or -100 and -100.0, must give the same key.
        for field in fields(self):
            given = getattr(self, field.name)
            object.__setattr__(self, field.name, _typed(f"{self.kind}.{field.name}", str(field.type), given))
        for name, choices in CHOICES.items():
            if getattr(self, name, choices[0]) not in choices:
                raise MfhcaError(
                    f"{self.kind}.{name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}"
                )
        for name, minimum in MINIMUM.items():
            if getattr(self, name, minimum) < minimum:
                raise MfhcaError(f"{self.kind}.{name} is {getattr(self, name)}, expected {minimum} or more")

    def to_dict(self) -> dict[str, Any]:
        """Every field and the kind, as plain values."""
        return {"kind": self.kind, **asdict(self)}

    @property
    def key(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
        return key_of(self.to_dict())


@dataclass(frozen=True)
class _Spectrum(_Recipe):
    """Base of all that is computed from a short-time spectrum."""

    sample_rate: int = 16000  # Hz; III.A
    segment_samples: int = 48000  # 3 s; III.A
    tail: str = "pad"  # how to handle a short final segment: pad | overlap | drop; III.A pads
    minimum_tail_samples: int = 0  # a shorter tail is dropped unless it is the only segment; our choice
    window: str = "hamming-periodic"  # III.A says Hamming; periodic is our choice
    window_samples: int = 640  # 40 ms; III.A
    dft: int = 800  # points; III.A
    hop_samples: int = 160  # 10 ms; III.A
    frames: int = 300  # 3 s / 10 ms

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window_samples > self.dft:
            raise MfhcaError(
                f"{self.kind}.window_samples is {self.window_samples}, expected at most dft = {self.dft}"
            )


@dataclass(frozen=True)
class LogSpec(_Spectrum):
    """The log-magnitude spectrogram of section III.A: (frames, bins) per segment."""

    kind: ClassVar[str] = "logspec"

    bins: int = 200  # III.A: the first 200 points, 0-4 kHz
    floor_db: float = -100.0  # dB; our choice
    db_reference: str = "full_scale"  # 0 dB is full_scale, or the loudest value of the utterance; our choice
    pre_emphasis: float = 0.0  # coefficient; the released code uses 0.97, the paper names none
    dtype: str = "float16"  # as stored
    version: int = 1  # of the code: increased when the same fields give different values

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bins > self.dft // 2 + 1:
            raise MfhcaError(f"logspec.bins is {self.bins}, a DFT of {self.dft} has {self.dft // 2 + 1}")

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(T, F) of a segment."""
        return self.frames, self.bins


@dataclass(frozen=True)
class _Mel(_Spectrum):
    """Base of `logmel` and `mfcc`: the short-time spectrum of `LogSpec`, summed over mel bands."""

    mel_scale: str = "htk"  # the baseline's MFCCs
    bands: int = 80  # our choice: each has two or more DFT points, 20 Hz apart; with 128 some would have one
    low_hz: float = 0.0  # lower end of the first band
    high_hz: float = 8000.0  # upper end of the last band: half the sample rate
    floor_db: float = -100.0  # dB of a band; our choice, as logspec
    pre_emphasis: float = 0.0  # coefficient; the baseline's and the released code use 0.97
    dtype: str = "float16"  # as stored
    version: int = 1  # of the code: increased when the same fields give different values

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise MfhcaError(
                f"{self.kind}: the bands cover {self.low_hz:g} to {self.high_hz:g} Hz, "
                f"expected a range within 0 to {self.sample_rate / 2:g} Hz"
            )


@dataclass(frozen=True)
class LogMel(_Mel):
    """A log-Mel spectrogram, as in the paper's abstract and section I (unlike III.A): (frames, bands) per segment."""

    kind: ClassVar[str] = "logmel"

    db_reference: str = "full_scale"  # 0 dB is full_scale, or the loudest value of the utterance; our choice

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(T, F) of a segment."""
        return self.frames, self.bands


@dataclass(frozen=True)
class Mfcc(_Mel):
    """The MFCCs of the baseline [13], each frame scaled to unit L2 norm: (frames, coefficients) per segment."""

    kind: ClassVar[str] = "mfcc"

    coefficients: int = 40  # as the baseline

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coefficients > self.bands:
            raise MfhcaError(
                f"mfcc.coefficients is {self.coefficients}, expected at most the number of bands, {self.bands}"
            )

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(T, F) of a segment."""
        return self.frames, self.coefficients


@dataclass(frozen=True)
class Ssl(_Recipe):
    """Hidden states of a frozen speech encoder: (frames, width) per segment, (layers, frames, width) with all layers.

    The frame shape depends on the weights, so recipe.json stores it beside the recipe.
    """

    kind: ClassVar[str] = "ssl"

    weights_sha256: str  # hexadecimal
    config_sha256: str  # hexadecimal
    normalise: bool  # as the checkpoint's preprocessor requires
    attention_mask: bool  # as the checkpoint's preprocessor requires
    sample_rate: int = 16000  # Hz
    segment_samples: int = 48000  # 3 s; III.A
    tail: str = "pad"  # pad | overlap | drop; III.A pads
    minimum_tail_samples: int = 0  # a shorter tail is dropped unless it is the only segment; our choice
    pre_emphasis: float = 0.0  # coefficient
    layer: int | str = -1  # index of the hidden state; -1 is the last one; "all" stores all of them
    compute_dtype: str = "float32"  # float32 | bfloat16; float16 inference can give NaN
    attention: str = "sdpa"  # the implementation, which affects the last bits
    dtype: str = "float16"  # as stored
    version: int = 1  # of the code: increased when the same fields give different values

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.layer, str) and self.layer != ALL_LAYERS:
            raise MfhcaError(f"ssl.layer is {self.layer!r}, expected a whole number or {ALL_LAYERS}")


@dataclass(frozen=True)
class External(_Recipe):
    """Frames that another program computed: (frames, width) per segment.

    How they were computed is not known, so their content decides the key: other values are another recipe. The width is
    in recipe.json, beside the recipe.
    """

    kind: ClassVar[str] = "external"

    content_sha256: (
        str  # hexadecimal, of the frames of all utterances as they were given, see `exchange.external`
    )
    frame_rate: float  # Hz
    frames: int  # per segment: segment_samples at the frame rate
    sample_rate: int = 16000  # Hz; of the segments' unit, as in the other kinds
    segment_samples: int = 48000  # 3 s; III.A
    tail: str = "pad"  # pad | overlap | drop; III.A pads
    minimum_tail_samples: int = 0  # a shorter tail is dropped unless it is the only segment; our choice
    dtype: str = "float16"  # as stored
    version: int = 1  # of the code: increased when the same fields give different values


Spectral = LogSpec | LogMel | Mfcc  # computed from a short-time spectrum, without an encoder
Recipe = Spectral | Ssl
SPECTRAL: tuple[type[Spectral], ...] = (LogSpec, LogMel, Mfcc)
# The kinds that are computed from audio.
KINDS: dict[str, type[Recipe]] = {kind.kind: kind for kind in (*SPECTRAL, Ssl)}


def key_of(recipe: Mapping[str, Any]) -> str:
    """The key of a recipe in the form of a dictionary."""
    return sha256_text(canonical_json(dict(recipe)))[:16]


def _typed(name: str, type_name: str, value: Any) -> Any:
    """Converts a value to a field's type without rounding; True does not count as 1."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if type_name == "float" and number:
        return float(value) + 0.0  # turns -0.0 into 0.0
    types = type_name.split(" | ")
    if "int" in types and number and value == int(value):
        return int(value)
    if type(value).__name__ in types and type(value) in (str, bool):
        return value
    raise MfhcaError(f"{name} is {value!r}, expected {type_name}")
