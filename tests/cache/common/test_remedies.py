"""Remedies that can be pasted: nothing to fill in that the command was told, and make's own variables."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from places import REPOSITORY

from mfhca_cache.build.users import record_manifest
from mfhca_cache.common.remedies import MAKE, VARIABLES, completed
from mfhca_train.cli.main import main

COMMAND = "mfhca-cache features MANIFEST --root DIR --cache DIR --backbone ENCODER --kind ssl"


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_filled_command_has_the_words_that_were_given(manifest: str, root: str) -> None:
    words = shlex.split(completed(COMMAND, {"manifest": Path(manifest), "root": root, "backbone": None}))
    assert words[2:5] == [str(Path(manifest)), "--root", root]
    assert words[5:] == ["--cache", "DIR", "--backbone", "ENCODER", "--kind", "ssl"]


def test_of_several_corpora_the_one_that_the_message_names_is_filled_in() -> None:
    pairs = {"manifest": ("a.csv", "b.csv"), "root": ("ra", "rb"), "cache": ("c", "d")}
    given = {name: tuple(map(Path, pair)) for name, pair in pairs.items()}
    filled = "mfhca-cache features b.csv --root rb --cache d --backbone ENCODER --kind ssl"
    assert completed(f"d: no ssl features; run `{COMMAND}`", given) == f"d: no ssl features; run `{filled}`"
    for unclear in (COMMAND, f"dd: x {COMMAND}", f"a.csv and d: {COMMAND}"):
        assert completed(unclear, given) == unclear
    shared = {**given, "cache": (Path("c"),)}
    assert completed(f"a.csv: run {COMMAND}", shared).startswith(
        "a.csv: run mfhca-cache features a.csv --root ra --cache c "
    )


def test_the_root_is_the_one_whose_features_the_cache_holds(tmp_path: Path) -> None:
    """`cv` needs no --root; the record of `features` has it."""
    manifest, folder = tmp_path / "m.csv", tmp_path / "cache" / "ssl-x"
    folder.mkdir(parents=True)
    given = {"manifest": (manifest,), "root": (), "cache": (tmp_path / "cache",)}
    assert "--root DIR" in completed(COMMAND, given)
    record_manifest([folder], tmp_path / "other.csv", tmp_path / "theirs")
    assert "--root DIR" in completed(COMMAND, given)
    record_manifest([folder], manifest, tmp_path / "my audio")
    assert f"--root '{tmp_path / 'my audio'}' " in completed(COMMAND, given)
    assert "--root given " in completed(COMMAND, {**given, "root": "given"})
    (folder / "manifests.json").write_text("[1]")
    assert "--root DIR" in completed(COMMAND, given)


def test_other_words_stay() -> None:
    text = "MANIFEST and DIR of `mfhca-train predict DIR AUDIO...`"
    assert completed(text, {"manifest": Path("x.csv"), "root": Path("y")}) == text


def test_with_make_its_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "make" not in completed("pass --root", {})
    monkeypatch.setenv(MAKE, "1")
    assert completed("no option here", {}) == "no option here"
    assert completed("pass --root", {}) == "pass --root\nwith make: --root is ROOT="
    assert completed("pass --accept-copies", {}).endswith(
        "go into ARGS= (cv, ablations) or FEATURE_ARGS= (features)"
    )
    makefile = (REPOSITORY / "Makefile").read_text()
    assert all(re.search(rf"^{variable[:-1]} \?=", makefile, re.M) for variable in VARIABLES.values())
    assert f"export {MAKE} = 1" in makefile


def test_cv_fills_the_command_that_computes_features(tmp_path: Path) -> None:
    manifest = tmp_path / "two words.csv"
    manifest.write_text(
        "utterance,path,speaker,emotion\n" + "".join(f"{n},{n}.wav,{n % 4},a{n % 3}\n" for n in range(12))
    )
    (tmp_path / "cache").mkdir()
    asked = ["cv", str(manifest), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*asked, "--root", str(tmp_path)])
    assert result.exit_code == 1
    assert (
        f"mfhca-cache features '{manifest}' --root {tmp_path} --cache {tmp_path / 'cache'} --kind"
        in result.output
    )
