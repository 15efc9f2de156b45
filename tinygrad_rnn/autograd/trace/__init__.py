"""Cells to staged programs: what a step does, learnt by watching it run once."""
