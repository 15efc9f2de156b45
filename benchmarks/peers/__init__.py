"""What the benchmarks of recurrent layers are made of: rows, libraries in processes, goals."""
