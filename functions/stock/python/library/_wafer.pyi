def log(level: int, message: str) -> None:
    """Writes a message of a level, from 0 (trace) to 4 (error), to the log."""

def keep(objects: list[object]) -> None:
    """Makes the objects of a list, and what they refer to, stay for ever."""
