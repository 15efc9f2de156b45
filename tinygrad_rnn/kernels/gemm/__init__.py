"""Register-tiled matrix products on packed weights."""
