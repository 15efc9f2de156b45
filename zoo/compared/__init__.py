"""What zoo.compare_lm trains side by side."""
