"""Elementwise updates of many arrays, and their common norm, each in one pass."""
