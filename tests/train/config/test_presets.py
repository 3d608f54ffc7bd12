"""The presets that come with the program: complete, valid, and as their sources say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.card import manifest_folders
from mfhca_train.config.parse import unused_settings, with_settings
from mfhca_train.config.presets import read_preset
from mfhca_train.config.settings import Config, ModelConfig, TrainConfig

NAMES = ("paper", "released", "small")


def test_the_files_are_those_that_the_help_names() -> None:
    found = {path.stem for folder in manifest_folders() for path in (folder / "presets").glob("*")}
    assert found == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_fits_has_an_effect_and_one_sentence_of_provenance(name: str) -> None:
    preset = read_preset(name)
    config = with_settings(Config(), preset.settings)
    assert preset.name == name
    assert not set(preset.settings) & unused_settings(config)
    assert re.fullmatch(r"[^.\n]+(\.\w[^.\n]*)*\.", preset.provenance.replace("III.A", "IIIA"))


@pytest.mark.parametrize("inputs", ["both", "spec", "ssl"])
@pytest.mark.parametrize("name", NAMES)
def test_a_preset_can_be_used_with_any_inputs(name: str, inputs: str) -> None:
    config = with_settings(Config(), read_preset(name).settings)
    assert with_settings(config, {"model.inputs": inputs}).model == replace(config.model, inputs=inputs)  # type: ignore[arg-type]


def test_paper_is_the_defaults_and_so_are_its_files() -> None:
    assert with_settings(Config(), read_preset("paper").settings).to_dict() == Config().to_dict()


def test_released_and_small_have_the_settings_of_their_sources() -> None:
    assert with_settings(Config(), read_preset("released").settings) == Config(
        ModelConfig(grf="released", hca="released"),
        TrainConfig(lr=1e-5, epochs=100, patience=20, weight_decay=0.01, spec_norm="minmax"),
    )
    assert with_settings(Config(), read_preset("small").settings) == Config(
        ModelConfig(
            mask_padding=True,
            bilstm=False,
            hca_scale="sqrt",
            pooling="statistics",
            pool_norm=True,
            modality_dropout=0.5,
            dropout=0.2,
            grf_channels=(16, 32),
        ),
        TrainConfig(ssl_norm="standard", schedule="cosine", batch_size=16, lr=3e-3, epochs=8, select="last"),
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smal", r"^no preset is called 'smal'; did you mean small\? There are: small, "),
        ("Relased", r"^no preset is called 'Relased'; did you mean released\? There are: released, "),
        ("papers", r"did you mean paper\? There are: paper, "),
        ("xyz", r"^no preset is called 'xyz'; there are: paper, released, small$"),
        ("../ravdess", r"^no preset is called '\.\./ravdess'; "),
    ],
)
def test_an_unknown_preset_lists_all_the_most_similar_first(name: str, message: str) -> None:
    with pytest.raises(MfhcaError, match=message):
        read_preset(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[settings]", "own.toml: provenance is missing; correct the preset"),
        ('provenance = "p"\nlr = 1\n[settings]', "own.toml: .*lr"),
        (
            'provenance = "p"\n[settings]\n"train.lr" = {}',
            r"own.toml: settings.*train\.lr.*; correct the preset",
        ),
    ],
)
def test_a_damaged_file_is_named(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets/own.toml").write_text(text)
    monkeypatch.setattr("mfhca_train.config.presets.manifest_folders", lambda: (tmp_path,))
    with pytest.raises(MfhcaError, match=message):
        read_preset("own")
