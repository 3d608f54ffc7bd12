"""manifests.json: which manifests use a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from audio_factory import notes
from build_factory import build
from command_factory import command, done

from mfhca_cache.manifest.manifest import Utterance


def test_finished_cache_may_be_read_only(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done(*command(own, own / "cache"))
    (own / "rows.csv").rename(own / "renamed.csv")
    (own / "rows.csv").symlink_to("renamed.csv")

    def refuse(*_: object) -> None:
        from mfhca_cache.common.errors import MfhcaError

        raise MfhcaError("cache: cannot be written (Read-only file system)")

    monkeypatch.setattr("mfhca_cache.build.users.write_json", refuse)
    printed = done(*command(own, own / "cache"))
    assert "nothing to compute" in printed
    assert (
        "note: `prune` will not know that this manifest uses the cache: cache: cannot be written" in printed
    )


def test_manifests_that_use_a_cache_are_on_record(rows: list[Utterance], root: Path, tmp_path: Path) -> None:
    build(rows, root, tmp_path / "cache")
    assert notes(tmp_path / "cache") == [str(tmp_path / "rows.csv")]
