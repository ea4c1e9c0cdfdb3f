"""One image, many assigners: who gets how much, who gets nothing, and how far each is from the exact optimum."""

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
    """What one assigner did.

    positives: points that learn a gt
    counts:    the same by gt
    empty:     gts without a positive
    settled:   ambiguous points by what became of them: as in the optimum, another gt, background or ignored
    agreement: positives labelled as in the optimum over points that are positive in either, 1 where there are none
    fault:     why there is no assignment; then the others are zero or empty
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
    """A row an assigner, their assignments, and the ambiguous points: those in the centre priors of several gts."""

    rows: list[Row]
    assignments: dict[str, Assignment]
    ambiguous: Int[Tensor, " a"]
    optimum: Assignment

    def __str__(self) -> str:
        return "\n".join(table(self))

    def as_dict(self) -> dict:
        """All figures, for JSON: rows, and who got each ambiguous point. Gts and points count from 0 here."""
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
    """Let each assigner label the image, and set them beside the exact optimum of the transport problem (`ota`).

    An assigner that refuses the image gets a row that says why. Raises InputError for input that no assigner takes.
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
    """The row of one assignment."""
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
    """The comparison as lines of text; up to a dozen gts get a column each, more are summed up."""
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
