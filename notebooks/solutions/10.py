"""Lesson 10: an order from runs that were made before, and which pairs they tell apart."""

from otalab.lab.study import values
from otalab.lessons import lesson10

kept, _ = lesson10.recorded()
runs = [run for run in kept if run.assigner in lesson10.ASSIGNERS]

# The order of the means is the best guess for the next study, and for most pairs no more than a guess.
order = sorted(lesson10.ASSIGNERS, key=lambda name: -values(runs, name).mean())
print("order of the means:", ", ".join(order))
for (a, b), difference in lesson10.pairs(runs).items():
    print(f"{a:>5} - {b:<7} {difference}  {'told apart' if difference.separated else ''}")

verdict = lesson10.check(order, runs)
print(verdict)
