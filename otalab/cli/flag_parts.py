"""Building blocks of the command line: its parser, a command, and the types of flags."""

import argparse
from collections.abc import Callable
from pathlib import Path

from otalab.errors import InputError, one_line
from otalab.files import require_writable

MOST_SHAPES = 10**6  # images per split: 20 GB of files


class Parser(argparse.ArgumentParser):
    """A parser that reports a wrong flag like any other bad input: in one line, which names the command's own help."""

    def parse_known_args(self, args=None, namespace=None):
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:  # argparse leaves these to the outermost parser, whose help does not list the command's flags
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str):
        self.exit(2, f"otalab: error: {one_line(message)}; see {self.prog} --help\n")


def add_command(
    commands, name: str, run: str, help: str, description: str | None = None, epilog: str | None = None
) -> Callable[..., argparse.Action]:
    """Add a command, carried out by `run`: "module:function" of otalab.cli. Returns the function that adds flags."""
    description = description or help[0].upper() + help[1:] + "."
    command = commands.add_parser(name, help=help, description=description, epilog=epilog)
    command.set_defaults(run=run)
    return command.add_argument


def at_most(most: int) -> Callable[[str], int]:
    """Make the type of a flag that takes 1 to `most`, so that a number is bounded before anything is made from it."""

    def bounded(text: str) -> int:
        if (number := int(text)) < 1:
            raise argparse.ArgumentTypeError(f"{number} is less than 1")
        if number > most:
            raise argparse.ArgumentTypeError(f"{number} is more than {most:,}")
        return number

    bounded.__name__ = "count"  # argparse prints this name in its error message
    return bounded


count = at_most(10**9)  # for counts without a bound of their own


def size(text: str) -> tuple[int, ...]:
    """The type of --sizes: "20x400" means (rows, columns), and "20" means (gts,)."""
    try:
        numbers = tuple(count(word) for word in text.split("x"))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 2):
        raise argparse.ArgumentTypeError(f"{text!r} is neither ROWSxCOLUMNS nor a number of gts")
    return numbers


def output(text: str) -> Path:
    """The type of a file to write. A path that cannot be written is refused here, before the work begins."""
    path = Path(text)
    try:
        require_writable(path)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return path


def picture(text: str) -> Path:
    """The type of a picture to write: a file that ends in .png or .svg."""
    path = output(text)
    if path.suffix not in (".png", ".svg"):
        raise argparse.ArgumentTypeError(f"cannot draw {text}: its name must end in .png or .svg")
    return path
