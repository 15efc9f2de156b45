"""Staged programs over time: what they are, how they are written, laid out and run."""
