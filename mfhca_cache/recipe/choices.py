"""The feature options of the commands and their defaults. Standard library only, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass

from mfhca_cache.recipe.kinds import LogSpec, Ssl

DEFAULT_KINDS = (LogSpec.kind, Ssl.kind)  # what the paper's model reads; other kinds only on request
FORMATS = ("npz", "kaldi", "parquet", "hf")  # of an export
CONTENTS = ("frames", "segments", "statistics")  # of an export
BATCH_SIZE = 8  # segments; the fastest of 1 to 32 on two cores
# Options that affect some kinds only; without any of these kinds they would have no effect and are refused.
KINDS_OF_OPTION = {"db_reference": ("logspec", "logmel"), "compute_dtype": ("ssl",), "layer": ("ssl",)}


@dataclass(frozen=True)
class Settings:
    """The feature options; every field is part of one or more recipes."""

    kinds: tuple[str, ...] = DEFAULT_KINDS
    tail: str = "pad"  # how to handle a short final segment: pad | overlap | drop
    minimum_tail_samples: int | None = None  # a shorter tail is dropped; None: the corpus card's, else 0
    pre_emphasis: float = 0.0  # coefficient; the paper names none
    db_reference: str = "full_scale"  # logspec, logmel: full_scale | utterance
    dtype: str = "float16"  # as stored
    compute_dtype: str = "float32"  # ssl: float32 | bfloat16
    layer: int | str = -1  # ssl: index into the hidden states, -1 the final one, or "all"
