"""Options of the commands: wrong usage is refused with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_factory import call


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "mel"], "is not one of 'logspec', 'logmel', 'mfcc', 'ssl'"),
        (["--kind", "logspec", "--layer", "3"], "--layer has no effect without --kind ssl"),
        (["--kind", "logspec", "--compute-dtype", "bfloat16"], "--compute-dtype has no effect without"),
        (
            ["--kind", "ssl", "--backbone", "x", "--db-reference", "utterance"],
            "--db-reference has no effect without --kind logspec or logmel",
        ),
        (["--kind", "mfcc", "--db-reference", "utterance"], "--db-reference has no effect"),
        (["--kind", "ssl"], "kind ssl needs --backbone"),
        ([], "kind ssl needs --backbone"),
        (["--kind", "logspec", "--pre-emphasis", "1.5"], "is not in the range"),
        (["--kind", "logspec", "--jobs", "0"], "is not in the range"),
        (["--layer", "some"], "'some' is neither an integer nor all"),
    ],
)
def test_wrong_usage_ends_with_2(corpus: Path, tmp_path: Path, options: list[str], message: str) -> None:
    places = [str(corpus / "rows.csv"), "--root", str(corpus / "audio"), "--cache", str(tmp_path / "cache")]
    result = call("features", *places, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonesuch", "there are: crema-d, demo, emodb, emovo, iemocap,"),
        ("emobd", "there is no corpus 'emobd'; did you mean emodb? There are: crema-d,"),
        ("EmoDB", "there is no corpus 'EmoDB'; did you mean emodb? There are: crema-d,"),
        ("folder", "did you mean folders?"),
    ],
)
def test_an_unknown_corpus_ends_with_2_and_the_nearest_name(tmp_path: Path, name: str, message: str) -> None:
    result = call("manifest", name, "--root", str(tmp_path))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
