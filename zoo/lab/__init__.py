"""The laboratory: every module measures what the lecture claims, by `python -m zoo.lab.NAME`."""
