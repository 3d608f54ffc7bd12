"""Where the tests find the repository and each other."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FACTORIES: Final = Path(__file__).resolve().parent
REPOSITORY: Final = FACTORIES.parents[1]
