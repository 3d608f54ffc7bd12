"""Defaults of the arguments of a run, for the commands and the Python functions. Standard library only."""

from __future__ import annotations

PROTOCOL = "strict"
SEEDS = 1  # of a cross-validation
ABLATION_SEEDS = 3
THREADS = 1  # per fold
