ZONES: dict[str, bytes]
"""The files of time zones, by key. `recipe/build.py` makes this module."""
