"""The commands `import` and `export` of mfhca-cache. Only click and the standard library are imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mfhca_cache.common.console import DIR, FILE, Command, copies_option, echo, jobs_option
from mfhca_cache.common.hardware import cores
from mfhca_cache.common.progress import progress
from mfhca_cache.recipe.choices import CONTENTS, FORMATS, Settings
from mfhca_cache.recipe.kinds import DTYPES, TAILS

DEFAULTS = Settings()


@click.command("import", cls=Command)
@click.argument("manifest", type=FILE)
@click.option("--cache", type=DIR, required=True, help="The cache folder.")
@click.option(
    "--features",
    "source",
    metavar="DIR|FILE.scp",
    type=DIR,
    required=True,
    help="A folder with a .npy or .npz file per utterance, or an .scp of Kaldi.",
)
@click.option(
    "--name", metavar="NAME", required=True, help="What to call the features, for example emotion2vec."
)
@click.option(
    "--frame-rate",
    metavar="HZ",
    type=click.FloatRange(min=1),
    help="Frames per second, for example 50. Not needed for features in segments.",
)
@click.option(
    "--root",
    type=DIR,
    help="The corpus folder. Needed if the manifest has no samples and sample_rate, and to combine the features with "
    "others that are computed later.",
)
@click.option(
    "--label-set", metavar="NAME", help="Use the utterances of this label set.  [default: the corpus card's]"
)
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default=DEFAULTS.dtype,
    show_default=True,
    help="Data type of stored features.",
)
@click.option(
    "--tail",
    type=click.Choice(TAILS),
    default=DEFAULTS.tail,
    show_default=True,
    help="How to handle a short final segment; as for the other features of the cache.",
)
@click.option(
    "--minimum-tail",
    "minimum_tail_samples",
    metavar="SAMPLES",
    type=click.IntRange(min=0),
    default=DEFAULTS.minimum_tail_samples,
    help="Drop a shorter final segment (samples at 16 kHz).  [default: the corpus card's, else 0]",
)
@copies_option()
@jobs_option("Threads for reading audio", "one per core")
@click.option("--allow-outside", is_flag=True, help="Follow links that lead out of the root.")
def import_command(manifest: Path, cache: Path, jobs: int | None, **options: Any) -> None:
    """Store frame features of another program in a cache, for `mfhca-train cv --ssl` or `--spec`.

    The files or keys are named after the utterances or their audio files. Each holds an array (frames, width). Other
    values become another recipe: the content of the features decides their key. For example:

    \b
      mfhca-cache import my.csv --cache cache/mine --features emotion2vec/ \\
          --name emotion2vec --frame-rate 50 --root /data/mine
    """
    from mfhca_cache.exchange.external import import_features

    with progress(None, " utterances", "importing") as bar:
        imported = import_features(manifest, cache, jobs=jobs or cores(), advance=bar.update, **options)
    echo(str(imported))
    echo(
        f"train on them with `mfhca-train cv {manifest} --cache {cache} --ssl {imported.folder.name}`, or --spec"
    )


@click.command("export", cls=Command)
@click.argument("manifest", type=FILE)
@click.option("--cache", type=DIR, required=True, help="The cache folder.")
@click.option("--out", type=DIR, required=True, help="A new folder.")
@click.option("--format", type=click.Choice(FORMATS), required=True, help="hf: Hugging Face datasets.")
@click.option(
    "--recipe",
    metavar="NAME",
    help="The features: the name of a folder in the cache, or its beginning.  [default: the only ones]",
)
@click.option("--layer", metavar="N", type=int, help="The layer, if all layers are stored; -1 is the last.")
@click.option(
    "--content",
    type=click.Choice(CONTENTS),
    default=CONTENTS[0],
    show_default=True,
    help="All frames of an utterance without padding; segments as stored; or mean and standard deviation.",
)
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    help="Data type of the values.  [default: as stored; kaldi: float32]",
)
@click.option(
    "--label-set", metavar="NAME", help="Use the utterances of this label set.  [default: the corpus card's]"
)
def export_command(manifest: Path, cache: Path, out: Path, **options: Any) -> None:
    """Write features for other tools: numpy, Kaldi, parquet, Hugging Face datasets.

    Speaker, label and fold of every utterance are in labels.csv beside the features. The fold is that of the manifest,
    or else the strict fold that tests the speaker and has the speaker's name. For example:

    \b
      mfhca-cache export my.csv --cache cache/mine --recipe ssl --format npz --out features/mine
    """
    from mfhca_cache.exchange.export import export_features

    with progress(None, " utterances", "exporting") as bar:
        echo(str(export_features(manifest, cache, out, advance=bar.update, **options)))
