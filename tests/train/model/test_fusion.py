"""Fusions are found by the name of their module, and describe their attention."""

from __future__ import annotations

import typing

import pytest

from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.coattention import CoAttention
from mfhca_train.model.fusion import CHANNELS, CONCAT, TIME, Fusion, attention_of, fusion_class
from mfhca_train.model.hca import HierarchicalCooperativeAttention

NAMES = typing.get_args(typing.get_type_hints(ModelConfig)["fusion"])


@pytest.mark.parametrize("name", [name for name in NAMES if name != CONCAT])
def test_every_fusion_of_the_settings_has_a_registered_class(name: str) -> None:
    fusion = fusion_class(ModelConfig(fusion=name))  # type: ignore[arg-type]
    assert fusion is not None
    assert issubclass(fusion, Fusion)
    assert fusion is {"hca": HierarchicalCooperativeAttention, "coattention": CoAttention}[name]


def test_one_input_and_concatenation_have_no_fusion() -> None:
    for config in (ModelConfig(fusion="concat"), ModelConfig(inputs="spec"), ModelConfig(inputs="ssl")):
        assert fusion_class(config) is None
        assert attention_of(config) is None


def test_attention_is_over_time_but_for_the_channel_variant() -> None:
    for hca in ("temporal", "frames", "released", "channel"):
        attention = attention_of(ModelConfig(hca=hca))
        assert attention is not None
        assert attention.over == (CHANNELS if hca == "channel" else TIME)
        assert ("softmax over" in attention.description) == (hca != "released")
