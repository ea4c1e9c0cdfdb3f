"""The one exception that says: the input is at fault, and here is the number to mend."""


class InputError(ValueError):
    """Raised for input that its owner can mend; the command line prints it as one line, without a traceback."""


def first_line(error: object, most: int = 400) -> str:
    """The first line of an exception's or a value's text, for messages of one line; what is longer than `most` loses its middle."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-most // 2 :]}"
