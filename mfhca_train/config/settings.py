"""Every setting of a run: its type and range, default, source and meaning. `mfhca-train config` shows all of them.

Sources: "III.A" and the like are sections of the paper; "released" is the code its authors published; "baseline" the
co-attention network it builds on; "ours" is a choice of this project. Text becomes a setting in `parse`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]
Layer = Annotated[int, Meta(ge=-1)]
Channels = Annotated[
    tuple[Positive, ...],
    Meta(
        min_length=1, description="a list of whole numbers of at least 1, one per block, at least one block"
    ),
]
LearningRate = Annotated[float, Meta(gt=0, le=10)]
Probability = Annotated[float, Meta(ge=0, lt=1)]
WeightDecay = Annotated[float, Meta(ge=0, le=1e6)]
BatchSize = Annotated[int, Meta(ge=2)]
Groups = Annotated[int, Meta(ge=3)]
FocalGamma = Annotated[float, Meta(ge=0, le=10)]
# Absent from run.json at their default, so that the identity of a run without them is as it was before they existed.
OMITTED_AT_DEFAULT = (
    "pooling",
    "pool_norm",
    "modality_dropout",
    "select",
    "refit",
    "shared_speakers",
    "label_smoothing",
    "focal_gamma",
    "sampling",
    "spec_time_mask",
    "spec_frequency_mask",
    "ssl_time_mask",
    "ssl_feature_mask",
)


def _(default: Any, source: str, meaning: str, unit: str = "") -> Any:
    """A setting: its default, where that comes from, what it means, and the unit of a number."""
    return field(default=default, metadata={"source": source, "meaning": meaning, "unit": unit})


@dataclass(frozen=True)
class ModelConfig:
    """The network (paper II). Variants are options, not silent picks; docs/paper.md, "Departures and variants"."""

    inputs: Literal["both", "spec", "ssl"] = _(
        "both", "Table II", "inputs of the network: spectrogram, hidden states, or both"
    )
    spec_encoder: Literal["mf", "alexnet"] = _(
        "mf", "II.B", "the network on the spectrogram; alexnet is the baseline's"
    )
    alexnet_weights: Literal["none", "imagenet"] = _(
        "none", "ours", "initial weights of alexnet: random, or torchvision's (the baseline's)"
    )
    mfcc: bool = _(False, "baseline", "MFCCs as a third input; needs fusion coattention or concat")
    grf: Literal["equations", "released"] = _(
        "equations", "eq. 3-8", "the GRF block as written, or the released one"
    )
    grf_channels: Channels = _((16, 32, 48), "Table III", "channels of the GRF blocks")
    grf_rate: Positive = _(4, "Table IV", "rate r of the pooling in eq. 7; the table has 1/r")
    fusion: Literal["hca", "coattention", "concat"] = _(
        "hca", "II.D", "the paper's attention, the baseline's, or none"
    )
    hca: Literal["temporal", "channel", "frames", "released"] = _(
        "temporal", "ours", "variant of eq. 9 and 10"
    )
    hca_scale: Literal["none", "sqrt"] = _(
        "none", "eq. 9", "the product as written, or divided by sqrt(D) (ours)"
    )
    ssl_layer: Literal["auto", "weighted", "weighted-norm"] | Layer = _(
        "auto",
        "ours",
        "hidden states: what the cache holds, a learned sum of all layers (SUPERB's), or one layer (-1: the output)",
    )
    bilstm: bool = _(True, "II.D", "a BiLSTM over the hidden states (f'_hubert), with any fusion")
    width: Positive = _(128, "released", "width of both sides and of the classifier's hidden layers", "units")
    dropout: Probability = _(0.1, "released", "dropout before fully connected layers", "probability")
    mask_padding: bool = _(False, "ours", "exclude padded frames from the whole network")
    pooling: Literal["mean", "statistics"] = _(
        "mean", "ours", "pooling of hidden states over time: mean, or mean and standard deviation"
    )
    pool_norm: bool = _(False, "ours", "batch norm, without affine part, of the pooled hidden states")
    modality_dropout: Probability = _(
        0.0, "ours", "chance that a sample's f_spec is zeroed before the classifier", "probability"
    )


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation and selection (paper III.A unless said otherwise)."""

    lr: LearningRate = _(1e-5, "III.A", "learning rate of Adam; meant for a corpus of IEMOCAP's size")
    schedule: Literal["constant", "cosine"] = _(
        "constant",
        "ours",
        "of the learning rate; the paper names none. cosine: one epoch of warm-up, then down to 0",
    )
    weight_decay: WeightDecay = _(0.0, "ours", "the paper names none; above 0 it is AdamW's")
    batch_size: BatchSize = _(32, "III.A", "of a training step; batch normalisation needs two", "segments")
    epochs: Positive = _(100, "released", "upper limit", "epochs")
    patience: Positive = _(10, "III.A", "stop after so many without a better validation score", "epochs")
    select: Literal["best", "last"] = _(
        "best", "III.A", "epoch that is kept: the best on the validation speakers, or (ours) the last one"
    )
    refit: bool = _(
        False, "ours", "train again for the selected number of epochs, on the validation speakers too"
    )
    spec_norm: Literal["standard", "minmax", "none", "speaker", "corpus"] = _(
        "standard",
        "ours",
        "normalisation of the spectrogram per bin, over training speakers (released: minmax), over all recordings of "
        "each speaker (transductive), or over the training speakers of each of several corpora",
    )
    ssl_norm: Literal["none", "standard", "speaker", "corpus"] = _(
        "none",
        "ours",
        "normalisation of the hidden states per dimension, over training speakers, over all recordings of each speaker "
        "(transductive), or over the training speakers of each of several corpora",
    )
    class_weights: bool = _(False, "ours", "cross-entropy weighted by inverse class frequency")
    label_smoothing: Probability = _(
        0.0, "ours", "share of the target spread over all classes", "probability"
    )
    focal_gamma: FocalGamma = _(0.0, "ours", "focal loss: segments weigh (1 - p)^gamma, p of the true class")
    sampling: Literal["all", "class", "class-speaker"] = _(
        "all",
        "ours",
        "segments of an epoch: each once, or drawn so that classes (or classes of each speaker) are equally likely",
    )
    spec_time_mask: Probability = _(
        0.0, "ours", "SpecAugment: longest masked part of the spectrogram's frames"
    )
    spec_frequency_mask: Probability = _(
        0.0, "ours", "SpecAugment: largest masked part of its frequency bins"
    )
    ssl_time_mask: Probability = _(
        0.0, "ours", "SpecAugment: longest masked part of the hidden states' frames"
    )
    ssl_feature_mask: Probability = _(0.0, "ours", "SpecAugment: largest masked part of their dimensions")
    precision: Literal["float32", "bfloat16", "auto"] = _(
        "float32", "ours", "of the forward pass; auto: bfloat16 (autocast) where the device has units for it"
    )
    validation_speakers: Positive = _(
        2,
        "ours",
        "of a strict fold, where the corpus has no sessions; with protocol corpus of each training corpus",
        "speakers",
    )
    shared_speakers: bool = _(
        False,
        "ours",
        "accept an official split (protocol column) in which a speaker is trained on and tested",
    )
    groups: Groups = _(5, "ours", "k of the protocol group-k", "groups")


@dataclass(frozen=True)
class Config:
    """All settings that decide a result, besides data, protocol, seed and threads."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, as they go into run.json."""
        plain = dataclasses.asdict(self)
        plain["model"]["grf_channels"] = list(self.model.grf_channels)
        if self.model.ssl_layer == "auto":
            del plain["model"]["ssl_layer"]  # the recipe says which layer it is
        for group, defaults in (("model", ModelConfig), ("train", TrainConfig)):
            for name in OMITTED_AT_DEFAULT:
                if name in plain[group] and plain[group][name] == getattr(defaults, name):
                    del plain[group][name]
        return plain

    def normalises_per(self, unit: Literal["speaker", "corpus"]) -> bool:
        """Whether an input that is read is normalised for each speaker, or for each corpus, by itself."""
        train, inputs = self.train, self.model.inputs
        return (train.spec_norm == unit and inputs != "ssl") or (train.ssl_norm == unit and inputs != "spec")

    @property
    def scales_by_test(self) -> bool:
        """Whether utterances of an unknown corpus are normalised by unlabelled utterances of the same corpus."""
        return self.normalises_per("speaker") or self.normalises_per("corpus")

    def is_transductive(self, protocol: str) -> bool:
        """Whether unlabelled recordings of a test speaker normalise its own features.

        Under the protocol corpus nobody of the test corpus is trained on, so its statistics are those of the test
        recordings.
        """
        return self.normalises_per("speaker") or (self.normalises_per("corpus") and protocol == "corpus")


def setting_text(value: Any) -> str:
    """A setting as --set takes it.

    >>> setting_text(True), setting_text([16, 32])
    ('true', '16,32')
    """
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
