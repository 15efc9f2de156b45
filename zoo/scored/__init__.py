"""What zoo.score asks of language models."""
