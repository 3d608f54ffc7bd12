"""Options of the commands: wrong usage is refused with exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from audio_factory import LABELS
from command_factory import call, command, done


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


CARD = """name = "rows"
title = "Rows"
citation = "none"
licence = "none"
source = "none"
layout = "none"
labels = {labels}
default_set = "all"
[classes.all]
{classes}
[features]
minimum_tail_samples = 16000
"""


def test_the_card_gives_the_shortest_tail_and_an_option_overrides_it(own: Path) -> None:
    def names(*options: str) -> str:
        return done(*command(own, own / "cache", "--names", *options, name="status"))

    plain, longer = names(), names("--minimum-tail", "16000")
    classes = "\n".join(f'{label} = "{label}"' for label in LABELS)
    (own / "rows.toml").write_text(CARD.format(labels=json.dumps(LABELS), classes=classes))
    assert names() == longer != plain
    assert names("--minimum-tail", "0") == plain
    assert longer.split()[1] in done(*command(own, own / "cache", "--dry-run"))
