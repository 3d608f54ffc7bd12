"""`python -m mfhca_train`, and the command `mfhca-train`."""

from mfhca_cache.common.start import start


def main() -> None:
    """Runs the command."""
    start("mfhca_train.cli.main")


if __name__ == "__main__":
    main()
