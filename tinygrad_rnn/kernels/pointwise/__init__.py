"""Vector code of pointwise ops, by the names of primitives."""
