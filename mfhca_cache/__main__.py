"""`python -m mfhca_cache`."""

from mfhca_cache.cli import main

if __name__ == "__main__":
    main()
