"""Refusal: wrong input ends in one line that says what to do, not in a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager


class Refusal(Exception):
    """What the user gave cannot be used; the message is the line to print."""


@contextmanager
def refusing(where: str = "") -> Iterator[None]:
    """Around what reads the user's input and files: what the library says about them goes to the user."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        raise Refusal(f"{where}{error}") from error
