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


def test_unknown_corpus_ends_with_2(tmp_path: Path) -> None:
    result = call("manifest", "nonesuch", "--root", str(tmp_path))
    assert result.exit_code == 2
    assert "'crema-d', 'demo', 'emodb', 'emovo', 'iemocap'" in result.stderr
