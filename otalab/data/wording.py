"""Values and names out of files, as an error line can hold them: short, and printable."""

import reprlib

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlevel = 3


def quoted(value: object) -> str:
    """The value as Python writes it, on one line; what is long is cut in the middle."""
    return _short.repr(value)


def shown(text: object, most: int = 300) -> str:
    """The text without quotes; line breaks and other unprintable characters are escaped, what is long loses its middle.

    For paths and names: a file system, and a JSON file, can hold any character.
    """
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))
    half = (most - 3) // 2
    return line if len(line) <= most else f"{line[:half]}...{line[-half:]}"
