"""One problem, many solvers, one table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from torch import Tensor

from otalab.checks import require
from otalab.transport.methods import solve
from otalab.transport.problem import TransportProblem
from otalab.transport.solution import TransportSolution


@dataclass(frozen=True)
class Row:
    """One solver's figures. For a batch: objective and labels changed in total, and the worst gap and errors."""

    method: str  # with its options
    objective: float
    relative_gap: float  # certified by the solver's own potentials; the largest in absolute value
    row_error: float
    col_error: float
    labels_changed: int  # columns whose label differs from the reference's
    seconds: float  # median of the repeats
    time_ratio: float  # seconds divided by the reference's


FORMATS = {
    "method": "",
    "objective": ".6f",
    "relative_gap": ".1e",
    "row_error": ".1e",
    "col_error": ".1e",
    "labels_changed": "d",
    "seconds": ".2e",
    "time_ratio": ".3g",
}


@dataclass(frozen=True)
class Comparison:
    """A table of solvers: `str` gives aligned text, `rows` the figures, and `dataclasses.asdict` a dict for JSON."""

    reference: str
    rows: list[Row]
    unanswered: dict[str, str] = field(default_factory=dict)  # methods that gave no answer, and why

    def __str__(self) -> str:
        cells = [[name.replace("_", " ") for name in FORMATS]]
        cells += [[format(getattr(row, name), spec) for name, spec in FORMATS.items()] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = []
        for name, *figures in cells:
            right = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *right]))
        lines += [f"{name.ljust(widths[0])}  no answer: {reason}" for name, reason in self.unanswered.items()]
        return "\n".join(lines)


COMPARED = ("linprog", "emd", "augmenting-path", "newton", "sinkhorn", "pot-sinkhorn")


def compare(
    problem: TransportProblem,
    methods: Iterable[str | tuple[str, dict]] = COMPARED,
    *,
    repeats: int = 3,
    reference: str = "linprog",
) -> Comparison:
    """Solve `problem` by each method, and compare its answer and time with those of the reference.

    A method is a name, or a tuple of a name and its options: ("sinkhorn", {"eps": 0.01}). The reference comes first,
    even if `methods` leaves it out. Where costs tie, optimal plans may differ in their labels, so compare objectives.
    Raises InputError if `repeats` is not a whole number of at least 1, and whatever `solve` raises, for example for
    "assignment" with fractional supplies.
    """
    require("be a whole number of at least 1", repeats=repeats)
    asked = [(method, {}) if isinstance(method, str) else method for method in methods]
    asked = [(reference, {}), *(entry for entry in asked if entry != (reference, {}))]
    runs = [
        (title(method, options), [solve(problem, method, **options) for _ in range(repeats)])
        for method, options in asked
    ]
    return tabulate(reference, runs)


def title(method: str, options: dict) -> str:
    """The heading of a row: the method and its options."""
    return " ".join([method, *(f"{name}={value}" for name, value in options.items())])


def tabulate(
    reference: str, runs: Sequence[tuple[str, Sequence[TransportSolution]]], unanswered: dict[str, str] | None = None
) -> Comparison:
    """Tabulate runs on one problem: a title and repeated solutions for each solver, the reference first."""
    seconds = [median(run.seconds for run in repeated) for _, repeated in runs]
    rows = [
        Row(
            method=name,
            objective=solution.objective.sum().item(),
            relative_gap=_worst(solution.relative_gap),
            row_error=_worst(solution.row_error),
            col_error=_worst(solution.col_error),
            labels_changed=int((solution.labels != runs[0][1][0].labels).sum()),
            seconds=spent,
            time_ratio=spent / seconds[0],
        )
        for (name, (solution, *_)), spent in zip(runs, seconds, strict=True)
    ]
    return Comparison(reference, rows, unanswered or {})


def _worst(figures: Tensor) -> float:
    return max(figures.flatten().tolist(), key=abs, default=0.0)
