"""Types of command-line flags."""

import argparse
from collections.abc import Callable
from pathlib import Path

MOST = 10**9  # of anything that is counted; each flag's own bound lies far below


def count(text: str) -> int:
    """The type of a flag that counts something."""
    return at_most(MOST)(text)


def at_most(most: int) -> Callable[[str], int]:
    """The type of a flag that counts up to `most`: what is made from the number is bounded before it is made."""

    def bounded(text: str) -> int:
        if (number := int(text)) < 1:
            raise argparse.ArgumentTypeError(f"{number} is less than 1")
        if number > most:
            raise argparse.ArgumentTypeError(f"{number} is more than {most:,}")
        return number

    bounded.__name__ = "count"  # argparse names the type in its message
    return bounded


def picture(text: str) -> Path:
    """The type of a picture to write."""
    path = Path(text)
    if path.suffix not in (".png", ".svg"):
        raise argparse.ArgumentTypeError(f"cannot draw {text}: its name must end in .png or .svg")
    return path
