"""How a script runs: options, folders, training, stopping, judging, curves."""
