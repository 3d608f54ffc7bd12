"""Measurements of speed and memory of both stages, with targets. `python -m bench` runs them."""
