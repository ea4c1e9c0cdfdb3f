"""One progress bar for all long work: it updates smoothly in a terminal, and every half minute in a log file."""

import sys

from tqdm import tqdm


def progress_bar(iterable=None, **options) -> tqdm:
    """`tqdm` with the same arguments, which does not fill a log file with an animation."""
    return tqdm(iterable, mininterval=0.2 if sys.stderr.isatty() else 30, **options)
