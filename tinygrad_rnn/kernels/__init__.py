"""Kernels: NumPy, Numba and llvmlite only. Nothing here knows of gradients or Tensors."""
