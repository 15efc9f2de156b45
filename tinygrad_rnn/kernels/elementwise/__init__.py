"""Elementwise programs over whole arrays: one pass over memory, however long the equation."""
