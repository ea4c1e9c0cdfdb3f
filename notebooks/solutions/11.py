"""Lesson 11: the paired loop of a study."""

from otalab.lessons import lesson11


def paired_loop(run, a, b, seeds):
    """AP of a minus that of b, for each seed: two detectors that share all luck that the seed decides."""
    return [run(a, seed) - run(b, seed) for seed in seeds]


verdict = lesson11.check(paired_loop)
print(verdict)
