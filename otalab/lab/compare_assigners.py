"""Many assigners on one image: positives per gt, gts left empty, and the agreement with the exact optimum."""

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from otalab.assign.base import Assigner
from otalab.assign.ota import OTA
from otalab.assign.prior import RadiusPrior
from otalab.assign.types import BACKGROUND, AnchorPoints, Assignment, Predictions, Targets
from otalab.errors import InputError


@dataclass(frozen=True)
class Row:
    """The result of one assigner.

    positives: number of points that learn a gt
    counts:    positives of each gt
    empty:     indices of the gts without a positive
    settled:   numbers of ambiguous points labelled as in the optimum, with another gt than there, and as background
               or ignored where the optimum differs
    agreement: positives labelled as in the optimum, over the points that are positive in either assignment; 1 if no
               point is
    fault:     why the assigner gave no assignment; all other figures are then zero or empty
    """

    name: str
    positives: int = 0
    counts: tuple[int, ...] = ()
    empty: tuple[int, ...] = ()
    settled: tuple[int, int, int] = (0, 0, 0)
    agreement: float = 0.0
    fault: str | None = None


@dataclass(frozen=True)
class FamilyComparison:
    """One row per assigner, the assignments, and the ambiguous points: those in the centre priors of several gts."""

    rows: list[Row]
    assignments: dict[str, Assignment]
    ambiguous: Int[Tensor, " a"]
    optimum: Assignment

    def __str__(self) -> str:
        return "\n".join(table(self))

    def as_dict(self) -> dict:
        """All figures for JSON: the rows, and the label of each ambiguous point. Gts and points are numbered from 0."""
        points = self.ambiguous.tolist()
        owners = {name: a.matched_gt[self.ambiguous].tolist() for name, a in self.assignments.items()}
        optimal = self.optimum.matched_gt[self.ambiguous].tolist()
        return {
            "rows": [vars(row) for row in self.rows],
            "ambiguous": [
                {"point": point, "optimum": best, "owner": {name: owner[i] for name, owner in owners.items()}}
                for i, (point, best) in enumerate(zip(points, optimal, strict=True))
            ],
        }


def compare_assigners(
    points: AnchorPoints, predictions: Predictions, targets: Targets, assigners: dict[str, Assigner]
) -> FamilyComparison:
    """Let each assigner label the image, and compare the labels with the exact transport optimum (that of `ota`).

    An assigner that refuses the image gets a row that says why. Raises InputError for input that `ota` refuses.
    """
    optimum = OTA()(points, predictions, targets)
    ambiguous = (RadiusPrior()(points, targets.boxes.to(points.xy)).sum(dim=0) > 1).nonzero().squeeze(1)
    rows, assignments = [], {}
    for name, assigner in assigners.items():
        try:
            assignments[name] = assigner(points, predictions, targets)
        except InputError as error:
            rows.append(Row(name, fault=str(error)))
        else:
            rows.append(compare(name, assignments[name], optimum, ambiguous))
    return FamilyComparison(rows, assignments, ambiguous, optimum)


def compare(name: str, found: Assignment, optimum: Assignment, ambiguous: Int[Tensor, " a"]) -> Row:
    """The row of one assigner, whose assignment is compared with the optimum."""
    counts = found.counts.tolist()
    same = found.matched_gt == optimum.matched_gt
    either = found.positive | optimum.positive
    owner, as_optimal = found.matched_gt[ambiguous], same[ambiguous]
    settled = as_optimal, (owner > BACKGROUND) & ~as_optimal, (owner <= BACKGROUND) & ~as_optimal
    return Row(
        name=name,
        positives=sum(counts),
        counts=tuple(counts),
        empty=tuple(i for i, count in enumerate(counts) if count == 0),
        settled=tuple(int(kind.sum()) for kind in settled),
        agreement=int((same & either).sum()) / int(either.sum()) if either.any() else 1.0,
    )


def table(family: FamilyComparison) -> Iterable[str]:
    """The comparison as lines of text. Up to 12 gts have a column each; more are summed up as least, median, most."""
    num_gt = len(family.optimum.deficit)
    each = num_gt <= 12
    heads = [f"gt {i + 1}" for i in range(num_gt)] if each else ["least", "median", "most"]
    width = max(len(name) for name in ("assigner", *(row.name for row in family.rows)))
    form = "  ".join([f"{{:<{width}}}", "{:>9}", "{:>7}" * len(heads), "{:>5}", "{:>28}", "{:>9}"])
    yield f"{num_gt} gts, {len(family.ambiguous)} ambiguous points (in the centre priors of several gts)"
    yield ""
    yield form.format("assigner", "positives", *heads, "empty", "ambiguous: as ota/other/none", "agreement")
    for row in family.rows:
        if row.fault:
            yield f"{row.name:<{width}}  {row.fault}"
            continue
        ordered = sorted(row.counts)
        numbers = row.counts if each else (ordered[0], ordered[len(ordered) // 2], ordered[-1])
        settled = "/".join(map(str, row.settled))
        yield form.format(row.name, row.positives, *numbers, len(row.empty), settled, f"{row.agreement:.2f}")
