"""Stage two: folds, the MFHCA model and its training from the cache."""
