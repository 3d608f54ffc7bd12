"""The command `export`.

Only click and the standard library are imported, so that `--help` is fast.
"""

from __future__ import annotations

from pathlib import Path

import click

from mfhca_cache.common.console import DIR, FILE, Command, echo
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.log import LOG
from mfhca_train.cli.inference import ROW


@click.command(cls=Command)
@click.argument("run", type=DIR)
@click.option("--out", type=DIR, required=True, help="The folder of the bundle; it must not exist.")
@ROW
@click.option(
    "--fold", "folds", multiple=True, metavar="ID", help="Only the networks of this fold (repeat for more)."
)
@click.option(
    "--backbone",
    metavar="ENCODER",
    help="The encoder, to record its name and revision on the hub.  [default: looked for in the local hub cache]",
)
@click.option(
    "--card",
    "cards",
    type=FILE,
    multiple=True,
    metavar="FILE.toml",
    help="The corpus card, of several corpora each (repeat).  [default: the built-in one of this corpus]",
)
@click.option("--onnx", is_flag=True, help="Write the networks as ONNX files too, checked with onnxruntime.")
def export(
    run: Path,
    out: Path,
    row: str | None,
    folds: tuple[str, ...],
    backbone: str | None,
    cards: tuple[Path, ...],
    onnx: bool,
) -> None:
    """Write the networks of a run as a bundle, which predicts without the run and its cache.

    Its README.md is a model card for people and for the Hugging Face hub. For example:

    \b
      mfhca-train export runs/emodb --out emodb-networks
    """
    from mfhca_cache.manifest.card import find_card, read_card
    from mfhca_train.inference.bundle import write_bundle
    from mfhca_train.inference.ensemble import read_run
    from mfhca_train.inference.hub import encoder_of

    ensemble = read_run(run, row).of_folds(folds)
    names = tuple(ensemble.card.corpora) or (ensemble.card.corpus,)
    known = {name: read_card(path) for name in names if (path := find_card(name))}
    for path in cards:
        card = read_card(path)
        if card.name not in names:
            raise MfhcaError(f"{path}: the card of {card.name}; the run is of corpus {' and '.join(names)}")
        known[card.name] = card
    encoder = encoder_of(ensemble, backbone)
    write_bundle(ensemble, out, encoder, tuple(known.values()), onnx)
    for name in names:
        if name not in known:
            LOG.warning("no card of corpus %s: the licence is unknown; pass --card", name)
    if encoder and not encoder.name:
        LOG.info("the encoder is not in the local hub cache, so the bundle records only its digests")
    echo(f"{out}: {ensemble.title}")
