"""`python -m mfhca_cache`, and the command `mfhca-cache`."""

import signal


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    # An interruption before `start` can name it ends the process without a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mfhca_cache.common.start import start

    start("mfhca_cache.cli", arguments)


if __name__ == "__main__":
    main()
