"""What the study of `benchmarks.checker_power` is made of."""
