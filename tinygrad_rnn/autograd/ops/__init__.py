"""Ops: each is its array function with one rule per input on top."""
