"""Measurements: what the two stages cost, beside what they are meant to cost. `python -m bench` runs them."""
