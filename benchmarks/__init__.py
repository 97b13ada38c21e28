"""Timings against the peers, each in its best configuration, both sides in one run."""
