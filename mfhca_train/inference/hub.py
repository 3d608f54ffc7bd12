"""Bundles and the Hugging Face hub: the name of a bundle's encoder on the hub, and bundles that are on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.recipe.kinds import Ssl
from mfhca_train.inference.ensemble import Ensemble
from mfhca_train.results.schema import File


class EncoderSource(File, frozen=True, kw_only=True):
    """The frozen encoder of the training features."""

    name: str = ""  # on the hub; empty if it is not from there
    revision: str = ""  # commit on the hub
    weights_sha256: str
    config_sha256: str
    layer: int | str  # see `mfhca_cache.recipe.kinds.Ssl`

    @property
    def title(self) -> str:
        """For messages: name and revision, or nothing."""
        return f"{self.name}, revision {self.revision}" if self.name else ""


def encoder_of(ensemble: Ensemble, backbone: str | None = None) -> EncoderSource | None:
    """The encoder of some networks, with its name on the hub if its files are in the local hub cache.

    Args:
        ensemble: the networks.
        backbone: its folder or hub name; None to look for its digests in the local hub cache.

    Returns:
        None for networks on spectrograms alone.

    Raises:
        MfhcaError: the given encoder is not that of the networks, or none is needed.
    """
    from mfhca_cache.features import backbone as checkpoints
    from mfhca_cache.features import hub
    from mfhca_cache.recipe.folder import from_dict

    recipe = next((from_dict(r) for r in ensemble.inputs.recipes.values() if r["kind"] == Ssl.kind), None)
    if not isinstance(recipe, Ssl):
        if backbone is not None:
            raise MfhcaError(f"backbone {backbone}: the networks read no hidden states; leave it out")
        return None
    if backbone is None:
        found = hub.find_cached(recipe.weights_sha256, recipe.config_sha256)
    else:
        checkpoint = checkpoints.resolve(backbone)
        if (checkpoint.weights_sha256, checkpoint.config_sha256) != (
            recipe.weights_sha256,
            recipe.config_sha256,
        ):
            raise MfhcaError(
                f"backbone {backbone}: not the encoder of the training features (weights "
                f"{recipe.weights_sha256[:12]}..., here {checkpoint.weights_sha256[:12]}...); pass that one"
            )
        found = hub.snapshot_of(checkpoint.folder)
    return EncoderSource(
        name=found.name if found else "",
        revision=found.revision if found else "",
        weights_sha256=recipe.weights_sha256,
        config_sha256=recipe.config_sha256,
        layer=recipe.layer,
    )


def find_bundle(name: str, files: Sequence[str], revision: str | None) -> Path:
    """The folder of a run or a bundle: itself, or a bundle's name on the hub, which is downloaded once.

    Args:
        name: a folder, or a name like "someone/emotions".
        files: of a bundle.
        revision: of the hub; a commit, branch or tag.

    Raises:
        MfhcaError: it could not be downloaded, or it is a folder, which has no revisions.
    """
    from mfhca_cache.features import hub

    folder = Path(name)
    if folder.is_dir() or not hub.NAME.fullmatch(name):
        if revision is not None:
            raise MfhcaError(
                f"{name}: a folder has no revision {revision}; leave it out, or pass a name on the hub"
            )
        return folder
    return hub.download_files(name, files, revision)
