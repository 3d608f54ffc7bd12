"""What files take on the disk, and how that is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mfhca_cache.common.text import size_text


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files)


def disk_use(folders: Sequence[Path]) -> Iterator[str]:
    """Lines that tell what all folders together take, and each of them."""
    sizes = {path.name: size_of(path) for path in folders}
    yield f"on disk: {size_text(sum(sizes.values()))}"
    for name, size in sizes.items():
        yield f"{size_text(size):>10}  {name}"
