"""`python -m mfhca_train`, and the command `mfhca-train`."""

from mfhca_cache.common.start import start


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    start("mfhca_train.cli.main", arguments)


if __name__ == "__main__":
    main()
