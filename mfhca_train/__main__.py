"""`python -m mfhca_train`."""

from mfhca_train.cli.main import main

if __name__ == "__main__":
    main()
