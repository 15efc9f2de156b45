"""Recurrent networks at work: every module here is one task, run by `python -m zoo.NAME`."""
