"""Where settings come from, which source wins, and that what is shown can be read back."""

from __future__ import annotations

import dataclasses
import json
import shlex
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from corpus_factory import SMALL, request, utterances

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_train.cli.main import main
from mfhca_train.config.parse import FIELDS, unused_settings, with_settings
from mfhca_train.config.presets import read_preset
from mfhca_train.config.settings import Config, ModelConfig, TrainConfig
from mfhca_train.config.sources import describe_preset, read_settings, resolve, table, toml

CARD = (
    'name = "own"\ntitle = "t"\ncitation = "c"\nlicence = "l"\nsource = "s"\nlayout = "l"\n'
    'labels = ["anger", "joy", "neutral", "sorrow"]\ndefault_set = "all"\n[classes.all]\n'
    'anger = "anger"\njoy = "joy"\nneutral = "neutral"\nsorrow = "sorrow"\n'
    '[settings]\n"train.lr" = 1e-2\n"train.epochs" = 2\n"train.patience" = 3\n"model.width" = 64\n'
)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest with a card that has settings."""
    write_manifest(tmp_path / "own.csv", utterances())
    (tmp_path / "own.toml").write_text(CARD)
    return tmp_path / "own.csv"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_every_setting_says_where_it_comes_from_and_what_it_means() -> None:
    for name, entry in FIELDS.items():
        assert entry.metadata.get("source"), name
        assert entry.metadata.get("meaning"), name
    assert len(FIELDS) == len(dataclasses.fields(ModelConfig)) + len(dataclasses.fields(TrainConfig))


def test_later_sources_win_defaults_card_grid_file_set(manifest: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "f.toml", "[train]\nlr = 0.3\nepochs = 30\npatience = 30\n")
    base = {"train.lr": 0.2, "train.epochs": 20, "train.batch_size": 20}
    found = resolve(manifest, base, file, [("train.lr", "0.4")])
    train = found.config.train
    assert (train.lr, train.epochs, train.patience, train.batch_size) == (0.4, 30, 30, 20)
    assert (found.config.model.width, found.config.model.dropout) == (64, 0.1)
    assert found.set_by == {
        "train.lr": "--set",
        "train.epochs": str(file),
        "train.patience": str(file),
        "model.width": "corpus card own",
        "train.batch_size": "grid",
    }


def test_a_preset_of_the_command_line_replaces_the_card_and_yields_to_the_rest(
    manifest: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "f.toml", "[train]\nlr = 0.3\nepochs = 30\n")
    base = {"train.epochs": 20, "train.batch_size": 20}
    found = resolve(manifest, base, file, [("train.lr", "0.4")], "small")
    small = with_settings(Config(), read_preset("small").settings)
    own = {"train.lr": 0.4, "train.epochs": 30, "train.batch_size": 20}
    assert found.config == with_settings(small, own)
    sources = dict.fromkeys((*read_preset("small").settings, "train.patience", "model.width"), "preset small")
    assert found.set_by == sources | {
        "train.lr": "--set",
        "train.epochs": str(file),
        "train.batch_size": "grid",
    }
    assert found.default_preset is None
    assert resolve(manifest, preset="paper").config == Config()


@pytest.mark.parametrize("name", ["paper", "released", "small"])
def test_the_printed_file_of_a_preset_gives_the_preset_on_a_corpus_with_a_card(
    name: str, manifest: Path, tmp_path: Path
) -> None:
    found = resolve(manifest, preset=name)
    assert resolve(manifest, file=write(tmp_path / "f.toml", toml(found))).config == found.config


def test_the_settings_of_a_card_win_over_the_preset_it_names(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(f'preset = "small"\n{CARD}')
    found = resolve(manifest)
    own = {"train.lr": 1e-2, "train.epochs": 2, "train.patience": 3, "model.width": 64}
    assert found.config == with_settings(Config(), {**read_preset("small").settings, **own})
    assert (found.set_by["train.lr"], found.set_by["train.select"]) == ("corpus card own", "preset small")
    assert found.default_preset is None
    assert describe_preset(found) == f"preset small: {read_preset('small').provenance}"
    assert resolve(manifest, preset="released").config == with_settings(
        Config(), read_preset("released").settings
    )
    (tmp_path / "own.toml").write_text(f'preset = "smal"\n{CARD}')
    with pytest.raises(
        MfhcaError, match=r"corpus card own: no preset is called 'smal'; did you mean small\?"
    ):
        resolve(manifest)


def test_a_small_corpus_without_a_card_gets_small_unless_another_preset_is_given(tmp_path: Path) -> None:
    path, file = tmp_path / "mine.csv", write(tmp_path / "f.toml", "[train]\nlr = 0.3\n")
    write_manifest(path, utterances(speakers=5, each=400)[:1999])
    found = resolve(path)
    assert found.config == with_settings(Config(), read_preset("small").settings)
    assert found.default_preset == "small"
    line = describe_preset(found)
    assert line.startswith("preset small (no card, fewer than 2,000 utterances; ")
    assert "\n" not in line
    other = resolve(path, preset="paper")
    assert (other.config, other.default_preset) == (Config(), None)
    for own in (
        resolve(path, file=file),
        resolve(path, given=[("train.lr", "0.3")]),
        resolve(path, base={"train.lr": 0.3}),
    ):
        assert own.config == with_settings(found.config, {"train.lr": 0.3})
        assert own.default_preset == "small"
    write_manifest(path, utterances(speakers=5, each=400))
    assert resolve(path).config == resolve().config == Config()
    assert describe_preset(resolve(path)) == ""


def test_settings_of_a_card_are_not_those_of_several_corpora(manifest: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_bytes(manifest.read_bytes())
    found = resolve([manifest, other])
    assert found.config == resolve(preset="small").config
    assert describe_preset(found).startswith("preset small (several corpora, fewer than 2,000 utterances; ")


def test_corpora_with_a_card_keep_their_settings(manifest: Path) -> None:
    found = resolve(manifest)
    assert (found.config.train.lr, found.config.model.bilstm, found.preset) == (1e-2, True, None)


def test_tables_and_dotted_names_mean_the_same(tmp_path: Path) -> None:
    texts = (
        '[train]\nlr = 0.3\n[model]\nhca = "channel"',
        'train.lr = 0.3\nmodel.hca = "channel"',
        '"train.lr" = 0.3\n"model.hca" = "channel"',
    )
    assert len({read_settings(write(tmp_path / "f.toml", text)) for text in texts}) == 1


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"train.lr": "3e-4", "model.grf_channels": "8,16", "model.bilstm": "no"},
        {"model.inputs": "ssl", "train.epochs": "7"},
        {"model.fusion": "coattention", "model.mfcc": "true", "model.spec_encoder": "alexnet"},
    ],
)
def test_the_file_that_is_printed_gives_the_same_settings(given: dict[str, str], tmp_path: Path) -> None:
    printed = toml(resolve(given=list(given.items())))
    assert resolve(file=write(tmp_path / "f.toml", printed)).config == with_settings(Config(), given)
    every = tomllib.loads("\n".join(line.removeprefix("# ") for line in printed.splitlines() if "[" not in line[:3]
                                    and " = " in line and "(" not in line))  # fmt: skip
    assert set(every) == {name.partition(".")[2] for name in FIELDS}


def test_a_setting_without_effect_is_left_out_of_the_file(manifest: Path, tmp_path: Path) -> None:
    """Otherwise the file would be refused: its settings are given, and would be ignored."""
    (tmp_path / "own.toml").write_text(CARD + '"model.hca_scale" = "sqrt"\n')
    found = resolve(manifest, given=[("model.inputs", "ssl")])
    assert "model.hca_scale" in found.set_by
    assert "model.hca_scale" in unused_settings(found.config)
    assert resolve(file=write(tmp_path / "f.toml", toml(found))).config.model.inputs == "ssl"
    line = next(line for line in table(found) if "the product as written" in line)
    assert line.endswith("(no effect with these settings)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrr = 1", r"f\.toml: no setting is called 'lrr'; did you mean train\.lr\?"),
        ("[trian]\nlr = 1", r"f\.toml: no setting is called 'trian\.lr'; did you mean train\.lr\?"),
        (
            "[model]\ncolour = 1",
            r"f\.toml: no setting .*'model\.colour'; did you mean model\..*`mfhca-train config` lists all",
        ),
        ("[train]\nlr = 'fast'", r"f\.toml: train\.lr = 'fast' does not fit: expected a number above 0"),
        (
            "[train]\nlr = -1",
            r"f\.toml: train\.lr = -1 does not fit: expected a number above 0 of at most 10",
        ),
        ("lr 1", r"f\.toml: not valid TOML"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match=message):
        resolve(file=write(tmp_path / "f.toml", text))


def test_a_wrong_setting_of_a_card_names_the_card(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(CARD + '"train.speed" = 1\n')
    with pytest.raises(MfhcaError, match=r"corpus card own: no setting is called 'train\.speed'"):
        resolve(manifest)


def test_a_file_that_is_not_there_comes_with_the_command_that_makes_one(tmp_path: Path) -> None:
    result = call("config", "--config", str(tmp_path / "f.toml"))
    assert result.exit_code == 1
    assert f"`mfhca-train config --toml > {tmp_path / 'f.toml'}`" in result.stderr


def test_config_shows_every_setting_its_default_and_who_has_set_it(manifest: Path) -> None:
    result = call("config", "--manifest", str(manifest), "--set", "train.epochs=9")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1::2]] == list(FIELDS)
    found = {line.split()[0]: line.split(maxsplit=4) for line in lines[1::2]}
    assert found["train.lr"] == ["train.lr", "0.01", "1e-05", "III.A", "corpus card own"]
    assert found["train.epochs"] == ["train.epochs", "9", "100", "released", "--set"]
    assert found["model.bilstm"] == ["model.bilstm", "true", "true", "II.D"]


def test_cv_takes_a_file_and_set_wins_over_it(tmp_path: Path) -> None:
    request(tmp_path)
    small = [f'"{name}" = {json.dumps(value)}' for name, value in SMALL.items()]
    file = write(tmp_path / "f.toml", "\n".join([*small, '"train.dropout" = 0']))
    places = [
        str(tmp_path / "corpus.csv"),
        "--cache",
        str(tmp_path / "cache"),
        "--out",
        str(tmp_path / "run"),
    ]
    result = call("cv", *places, "--config", str(file))
    assert result.exit_code == 1
    assert "did you mean model.dropout?" in result.stderr
    file.write_text("\n".join(small))
    more = ("--set", "train.epochs=1", "--fold", "s0", "--jobs", "1", "--device", "cpu")
    result = call("cv", *places, "--config", str(file), *more)
    assert result.exit_code == 0, result.output
    about = json.loads((tmp_path / "run/run.json").read_text())
    preset = with_settings(Config(), read_preset("small").settings)
    assert about["config"] == with_settings(preset, {**SMALL, "train.epochs": "1"}).to_dict()
    log = (tmp_path / "run/log.txt").read_text()
    assert f"train.lr=0.003 ({file})" in log
    assert "train.epochs=1 (--set)" in log


def test_config_shows_a_preset_and_refuses_an_unknown_one(manifest: Path) -> None:
    result = call("config", "--preset", "small", "--set", "train.lr=1e-4")
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line.split(maxsplit=4) for line in result.stdout.splitlines()[1::2]}
    assert lines["train.epochs"] == ["train.epochs", "8", "100", "released", "preset small"]
    assert lines["train.lr"] == ["train.lr", "0.0001", "1e-05", "III.A", "--set"]
    assert result.stderr == f"preset small: {read_preset('small').provenance}\n"
    for command in (["config"], ["cv", str(manifest), "--cache", "c", "--out", "o"]):
        result = call(*command, "--preset", "smal")
        assert result.exit_code == 1
        assert "did you mean small? There are: small, paper, released" in result.stderr


def test_cv_and_ablate_say_which_preset_a_small_corpus_gets(tmp_path: Path) -> None:
    request(tmp_path)
    grid = write(tmp_path / "one.toml", '[[row]]\nname = "majority"\nkind = "majority"\nreference = true\n')
    places = [str(tmp_path / "corpus.csv"), "--cache", str(tmp_path / "cache")]
    more = ["--fold", "s0", "--jobs", "1", "--device", "cpu", "--no-analysis"]
    small = with_settings(Config(), read_preset("small").settings).to_dict()
    for command in (["cv"], ["ablate", str(grid)]):
        out = tmp_path / command[0]
        result = call(*command, *places, "--out", str(out), *more)
        assert result.exit_code == 0, result.output
        assert result.stderr.count("preset small (no card, fewer than 2,000 utterances") == 1
        assert "preset small (no card" in (out / "log.txt").read_text()
        results = json.loads((out / "results.json").read_text())
        assert results["config"] == small
        assert results["default_preset"] == "small"
        assert "no card and fewer than 2,000 utterances" in (out / "report.html").read_text()
        assert "preset `small` was used" in (out / "report.md").read_text()
    lines = (tmp_path / "cv/report.md").read_text().splitlines()
    printed = next(line for line in lines if line.strip().startswith("mfhca-train cv"))
    arguments = shlex.split(printed.strip())
    given = [arguments[at + 1].split("=") for at, word in enumerate(arguments) if word == "--set"]
    repeated = resolve(
        tmp_path / "corpus.csv", given=[(name, value) for name, value in given], preset="paper"
    )
    assert repeated.config.to_dict() == json.loads((tmp_path / "cv/results.json").read_text())["config"]
    result = call("cv", *places, "--out", str(tmp_path / "cv"), *more, "--preset", "small")
    assert result.exit_code == 0, result.output
    assert "default_preset" not in json.loads((tmp_path / "cv/results.json").read_text())
