"""Kernels on rows, dealt to threads: losses over classes, normalisation, masks, rows of a table."""
