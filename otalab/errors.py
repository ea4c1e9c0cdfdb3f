"""The one exception that says: the input is at fault, and here is the number to mend."""


class InputError(ValueError):
    """Raised for input that its owner can mend; the command line prints it as one line, without a traceback."""
