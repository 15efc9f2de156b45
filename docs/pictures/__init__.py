"""The pictures of docs/layers: of cells, from their traced equations; of behaviour, from data."""
