"""What the sections of a run share: sizes, a temporary folder, and input that is generated once."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import synthetic
from bench.report import Section
from mfhca_cache.common.hardware import cores


@dataclass
class Run:
    """One run of the suite."""

    folder: Path  # temporary, removed at the end
    quick: bool  # small sizes, for a trial of the programs
    done: dict[str, Section] = field(default_factory=dict)  # sections measured so far, by name

    @property
    def cores(self) -> int:
        """Cores to use."""
        return cores()

    @property
    def batch_size(self) -> int:
        """Segments of a training step."""
        return 2 if self.quick else 32

    @functools.cached_property
    def encoder(self) -> Path:
        """An encoder of HuBERT base's size (in quick runs the demo's)."""
        return synthetic.encoder(self.folder / "hubert", self.quick)

    @functools.cached_property
    def training(self) -> dict[str, Any]:
        """Options of the variants that train or read: manifest and cache, full-sized features."""
        made = synthetic.training_corpus(self.folder / "training", 8, 4 if self.quick else 64)
        return {"manifest": str(made.manifest), "cache": str(made.cache)}

    def trainer(self, **settings: Any) -> dict[str, Any]:
        """Options of the variant `trainer`."""
        folder = tempfile.mkdtemp(prefix="fold-", dir=self.folder)
        return {
            **self.training,
            "settings": {"train.batch_size": self.batch_size, **settings},
            "folder": folder,
        }

    def figure(self, section: str, what: str) -> float | None:
        """The median of an earlier measurement, or None."""
        if section not in self.done:
            return None
        return next((f.spread.median for f in self.done[section].figures if f.what == what), None)
