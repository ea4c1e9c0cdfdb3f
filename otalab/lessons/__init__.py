"""Helpers that the notebooks share: checkers of their exercises, and functions that show figures.

from otalab.lessons import lesson01, show
lesson01.check(...)  # a Verdict: passed, and why; or not passed, and a hint
"""

from otalab.lessons.verdict import Verdict
from otalab.viz.film import show_film
from otalab.viz.microscope import show_microscope
from otalab.viz.output import show

__all__ = ["Verdict", "show", "show_film", "show_microscope"]
