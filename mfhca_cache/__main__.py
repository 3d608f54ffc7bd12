"""`python -m mfhca_cache`, and the command `mfhca-cache`."""

from mfhca_cache.common.start import start


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    start("mfhca_cache.cli", arguments)


if __name__ == "__main__":
    main()
