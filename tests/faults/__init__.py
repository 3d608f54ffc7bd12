"""What happens to a cache and to runs when things go wrong: kills, flipped bits, full disks, edits between stages.

`make test` runs a few of each (test_faults.py), `make torture` hundreds (torture.py).
Every trial is a real command on real files, in a process group of its own.
"""
