"""Lesson 11: the paired loop of a study."""

from otalab.lessons import lesson11


def paired_loop(run, a, b, seeds):
    """The AP of method a minus that of method b for each seed, whose luck both runs share."""
    return [run(a, seed) - run(b, seed) for seed in seeds]


verdict = lesson11.check(paired_loop)
print(verdict)
