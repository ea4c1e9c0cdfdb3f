"""Types of command-line flags."""

import argparse


def count(text: str) -> int:
    """The type of a flag that counts something."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number
