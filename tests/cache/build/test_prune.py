"""`mfhca-cache prune`: removes what no manifest uses, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from audio_factory import manifest_of, recorded
from command_factory import command, done, failed, manifest_rows, recipe_name

from mfhca_cache.common.files import lock


def test_prune_spares_what_a_manifest_names_and_asks_about_the_rest(own: Path) -> None:
    cache = str(own / "cache")
    done(*command(own, own / "cache"))
    assert done("prune", "--cache", cache) == "nothing to remove\n"
    rows = manifest_rows(own)
    manifest_of(own / "rows.csv", [row for row in rows if row.speaker == "a"])
    manifest_of(own / "other.csv", [row for row in rows if row.speaker == "c"])
    shards = own / "cache" / recipe_name(own)
    (shards / ".b.h5.rows").write_bytes(b"x" * 1000)

    listed = done("prune", "--cache", cache, "--dry-run")
    assert f"{shards / 'b.h5'} (" in listed
    assert "none of its utterances is in a recorded manifest" in listed
    assert f"{shards / '.b.h5.rows'} (1.0 kB): left by an interrupted run" in listed
    assert "would remove 3 (" in listed
    spared = done("prune", "--cache", cache, "--manifest", str(own / "other.csv"), "--dry-run")
    assert "c.h5" not in spared
    assert "nothing removed" in done("prune", "--cache", cache, answer="n\n")
    assert len(list(shards.glob("*.h5"))) == 3
    assert "removed 3 (" in done("prune", "--cache", cache, "--yes")
    assert sorted(path.name for path in shards.glob("*.h5")) == ["a.h5"]
    assert not (shards / ".b.h5.rows").exists()
    assert done("prune", "--cache", cache) == "nothing to remove\n"


def shards(own: Path) -> list[str]:
    return sorted(path.name for path in (own / "cache").glob("*/*.h5"))


def test_prune_removes_a_recipe_whose_manifest_is_forgotten(own: Path) -> None:
    done(*command(own, own / "cache"))
    done(*command(own, own / "cache", "--tail", "drop"))
    gone = own / "gone.csv"
    note = sorted((own / "cache").glob("*/manifests.json"))[0]
    note.write_text(json.dumps([{"manifest": str(gone), "root": str(own / "audio")}]))
    printed = done("prune", "--cache", str(own / "cache"), "--yes")
    assert f"kept: {note.parent}: its recorded manifest {gone} cannot be found" in printed
    assert f"`--manifest NEW_PATH --forget {gone}`" in printed
    assert printed.endswith("nothing to remove\n")
    printed = done("prune", "--cache", str(own / "cache"), "--yes", "--forget", str(gone))
    assert f"{note.parent} (" in printed
    assert "no manifest uses it" in printed
    assert not note.parent.exists()
    assert len(list((own / "cache").iterdir())) == 1


def test_prune_keeps_everything_when_the_manifests_are_out_of_reach(own: Path) -> None:
    """A drive that is not mounted: a manifest that cannot be found is unknown, not unused."""
    done(*command(own, own / "cache"))
    (own / "rows.csv").rename(own / "elsewhere.csv")
    printed = done("prune", "--cache", str(own / "cache"), "--yes")
    assert "nothing to remove" in printed
    assert shards(own) == ["a.h5", "b.h5", "c.h5"]
    # Another manifest does not make the first one known.
    other = own / "elsewhere.csv"
    printed = done("prune", "--cache", str(own / "cache"), "--yes", "--manifest", str(other))
    assert "nothing to remove" in printed
    assert shards(own) == ["a.h5", "b.h5", "c.h5"]
    moved = ["--manifest", str(other), "--forget", str(own / "rows.csv")]
    assert done("prune", "--cache", str(own / "cache"), "--yes", *moved) == "nothing to remove\n"
    assert shards(own) == ["a.h5", "b.h5", "c.h5"]


def test_prune_of_a_copied_cache_keeps_it_and_needs_an_explicit_option(own: Path) -> None:
    done(*command(own, own / "cache"))
    (note,) = (own / "cache").glob("*/manifests.json")
    note.unlink()
    printed = done("prune", "--cache", str(own / "cache"), "--yes")
    assert (
        f"kept: {note.parent}: no manifest is recorded for it; pass its --manifest, or --unrecorded"
        in printed
    )
    assert shards(own) == ["a.h5", "b.h5", "c.h5"]
    assert "removed 1 (" in done("prune", "--cache", str(own / "cache"), "--yes", "--unrecorded")
    assert shards(own) == []


def test_prune_removes_an_empty_recipe(own: Path) -> None:
    done(*command(own, own / "cache"))
    empty = own / "cache" / f"logmel-{'0' * 16}"
    empty.mkdir()
    assert f"{empty} (0 B): it has no features" in done("prune", "--cache", str(own / "cache"), "--yes")
    assert not empty.exists()


def test_prune_leaves_alone_what_a_living_writer_holds(own: Path) -> None:
    done(*command(own, own / "cache"))
    shards = own / "cache" / recipe_name(own)
    (shards / ".a.h5.rows").write_bytes(b"x")
    with lock(shards / ".a.h5.lock", "a"):
        assert done("prune", "--cache", str(own / "cache"), "--yes") == "nothing to remove\n"
    forget = ["--yes", "--forget", str(own / "rows.csv")]
    with lock(shards / ".a.h5.lock", "a"):
        assert done("prune", "--cache", str(own / "cache"), *forget) == "nothing to remove\n"
    assert shards.exists()


def test_prune_refuses_to_guess_what_an_unreadable_manifest_names(own: Path) -> None:
    done(*command(own, own / "cache"))
    (own / "rows.csv").write_text("not,a,manifest\n")
    assert "rows.csv: no column utterance" in failed("prune", "--cache", str(own / "cache"), "--yes")


def test_features_removes_part_files_of_complete_shards_but_not_those_of_a_living_writer(own: Path) -> None:
    done(*command(own, own / "cache"))
    (folder,) = (own / "cache").iterdir()
    whole = recorded(own / "cache")
    rows, journal, other = (folder / f".{name}" for name in ("a.h5.rows", "a.h5.journal", "b.h5.rows"))
    for path in (rows, journal, other):
        path.write_bytes(b"left by a writer that was killed")
    with lock(folder / ".b.h5.lock", "b"):
        assert "nothing to compute" in done(*command(own, own / "cache"))
        assert [path.exists() for path in (rows, journal, other)] == [False, False, True]
    done(*command(own, own / "cache"))
    assert not other.exists()
    assert recorded(own / "cache") == whole
