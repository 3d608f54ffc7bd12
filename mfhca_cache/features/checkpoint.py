"""The files of a speech encoder's checkpoint in the transformers format.

Only the files read here decide the encoder's output, and a recipe contains their
digests or their fields. Whatever else transformers would load or execute (adapters,
other weight files, Python code) is refused. Nothing here imports torch or transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, read_json, sha256_file, sha256_text

CONFIG: Final = "config.json"
PREPROCESSOR: Final = "preprocessor_config.json"
PROCESSOR: Final = "processor_config.json"  # newer checkpoints describe the preprocessor here
ADAPTER: Final = "adapter_config.json"
# In the order of transformers; an index names the files of weights that are split.
WEIGHTS: Final = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
INDEX: Final = ".index.json"
EXTRACTOR: Final = "Wav2Vec2FeatureExtractor"  # the only preprocessor of waveforms in transformers
# Fields of config.json that make transformers load or compute something else.
REFUSED_FIELDS: Final = {
    "auto_map": "would execute Python code from the folder; use a checkpoint of a model that transformers has",
    "transformers_weights": "names another weight file; rename that file to model.safetensors and remove the field",
    "quantization_config": "describes quantised weights; use the checkpoint before quantisation",
}


@dataclass(frozen=True)
class Preprocessor:
    """How a checkpoint prepares its input.

    Attributes:
        sample_rate: Hz.
        normalise: scale each input to zero mean and unit variance.
        attention_mask: mask the padding.
    """

    sample_rate: int
    normalise: bool
    attention_mask: bool


def read_config(folder: Path, backbone: str) -> dict[str, Any]:
    """The fields of config.json; `backbone` is for messages.

    Raises:
        MfhcaError: the file is missing or not a JSON object, or the folder asks for code, adapters or other weights.
    """
    config = _read_object(folder, CONFIG, backbone)
    _refuse_code(config, CONFIG, backbone)
    for field, reason in REFUSED_FIELDS.items():
        if config.get(field):
            raise MfhcaError(f"backbone {backbone}: {field} in {CONFIG} {reason}")
    if (folder / ADAPTER).is_file():
        raise MfhcaError(
            f"backbone {backbone}: {ADAPTER} describes an adapter (LoRA) that would change the weights; "
            "merge it into the model and save that, or remove the file"
        )
    return config


def read_preprocessor(folder: Path, backbone: str) -> Preprocessor:
    """The input normalisation, from preprocessor_config.json or processor_config.json; `backbone` is for messages.

    Raises:
        MfhcaError: both are missing or contradict each other, or describe no preprocessor of waveforms.
    """
    preprocessors: dict[str, Preprocessor] = {}
    for file in (PREPROCESSOR, PROCESSOR):
        if (folder / file).is_file():
            content = _read_object(folder, file, backbone)
            _refuse_code(content, file, backbone)
            fields = content.get("feature_extractor") if file == PROCESSOR else content
            if fields is not None:  # None where processor_config.json describes only a tokeniser
                preprocessors[file] = _preprocessor(fields, file, backbone)
    if not preprocessors:
        raise MfhcaError(
            f"backbone {backbone}: {PREPROCESSOR} is missing; download it from the checkpoint's page into {folder}"
        )
    if len(set(preprocessors.values())) > 1:
        raise MfhcaError(
            f"backbone {backbone}: {PREPROCESSOR} and {PROCESSOR} contradict each other "
            f"({preprocessors[PREPROCESSOR]}, {preprocessors[PROCESSOR]}); remove the wrong one"
        )
    return next(iter(preprocessors.values()))


def _preprocessor(fields: Any, file: str, backbone: str) -> Preprocessor:
    if not isinstance(fields, dict):
        raise MfhcaError(
            f"backbone {backbone}: feature_extractor in {file} is not a JSON object; download it again"
        )
    _refuse_code(fields, file, backbone)
    kind = fields.get("feature_extractor_type", EXTRACTOR)
    if kind != EXTRACTOR:
        raise MfhcaError(
            f"backbone {backbone}: feature_extractor_type in {file} is {kind!r}, expected {EXTRACTOR!r}; "
            "only encoders that read samples are supported"
        )
    if fields.get("padding_value", 0.0) != 0.0 or fields.get("feature_size", 1) != 1:
        raise MfhcaError(f"backbone {backbone}: {file} is not that of a waveform encoder padded with zeros")
    # The defaults are those of transformers.
    rate, normalise, mask = (
        fields.get(name, default)
        for name, default in (
            ("sampling_rate", 16_000),
            ("do_normalize", True),
            ("return_attention_mask", False),
        )
    )
    if type(rate) is not int or rate < 1 or type(normalise) is not bool or not isinstance(mask, bool | None):
        raise MfhcaError(
            f"backbone {backbone}: {file} is malformed (sampling_rate {rate!r}, do_normalize {normalise!r}, "
            f"return_attention_mask {mask!r}); download it again"
        )
    return Preprocessor(rate, normalise, bool(mask))


def weight_files(folder: Path, backbone: str) -> tuple[Path, ...]:
    """The files that hold the weights, in the order of their names; an index comes first.

    Args:
        folder: of the checkpoint.
        backbone: for messages.

    Raises:
        MfhcaError: there are none, or the index is malformed or names a file that is missing.
    """
    first = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if first is None:
        raise MfhcaError(
            f"backbone {backbone}: no weights in {folder}, expected one of {', '.join(WEIGHTS)}; download it again"
        )
    if not first.name.endswith(INDEX):
        return (first,)
    parts = [folder / name for name in parts_of(first, backbone)]
    for part in parts:
        if not part.is_file():
            raise MfhcaError(
                f"backbone {backbone}: {first.name} names {part.name}, which is missing; download it"
            )
    return (first, *parts)


def parts_of(index: Path, backbone: str) -> list[str]:
    """The names of the weight files in an index, sorted.

    Raises:
        MfhcaError: it is malformed, or a name leads out of the folder.
    """
    table = _read_object(index.parent, index.name, backbone).get("weight_map")
    names = sorted(set(map(str, table.values()))) if isinstance(table, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise MfhcaError(
            f"backbone {backbone}: {index.name} has no weight_map of file names; download it again"
        )
    return names


def weights_digest(files: tuple[Path, ...]) -> str:
    """Hexadecimal SHA-256 of the weights: of the file, or of the names and digests of all files.

    Raises:
        OSError: a file cannot be read.
    """
    if len(files) == 1:
        return sha256_file(files[0])
    return sha256_text(canonical_json({file.name: sha256_file(file) for file in files}))


def _read_object(folder: Path, file: str, backbone: str) -> dict[str, Any]:
    if not (folder / file).is_file():
        raise MfhcaError(
            f"backbone {backbone}: {file} is missing; download it from the checkpoint's page into {folder}"
        )
    value = read_json(folder / file)
    if not isinstance(value, dict):
        raise MfhcaError(f"backbone {backbone}: {file} is not a JSON object; download it again")
    return value


def _refuse_code(fields: dict[str, Any], file: str, backbone: str) -> None:
    if fields.get("auto_map"):
        raise MfhcaError(f"backbone {backbone}: auto_map in {file} {REFUSED_FIELDS['auto_map']}")
