"""Lesson 11: an order from runs that were made before, and which pairs they tell apart."""

from otalab.lab.study import values
from otalab.lessons import lesson11

kept, _ = lesson11.recorded()
runs = [run for run in kept if run.assigner in lesson11.ASSIGNERS]

# The order of the means is the best guess for the next study, and for most pairs no more than a guess.
order = sorted(lesson11.ASSIGNERS, key=lambda name: -values(runs, name).mean())
print("order of the means:", ", ".join(order))
for (a, b), difference in lesson11.pairs(runs).items():
    print(f"{a:>5} - {b:<7} {difference}  {'told apart' if difference.separated else ''}")

verdict = lesson11.check(order, runs)
print(verdict)
