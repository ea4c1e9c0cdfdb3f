"""The claim that the solvers are right, checked on toy, random and real assignment problems."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from otalab.assign import AnchorPoints, Predictions, Targets, build_assigner
from otalab.simulate import random_targets, simulate_predictions
from otalab.transport import Comparison, TransportProblem, compare, solve

EXACT = ("linprog", "emd", "assignment")
EXACT_TOLERANCE = 1e-9  # relative: objectives of exact solvers, and their gaps
SINKHORN_TOLERANCE = 1e-6  # plans of two implementations at equal eps and iterations


@dataclass(frozen=True)
class Check:
    """One claim about one problem, the figure that was seen and the figure that is allowed."""

    claim: str
    figure: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.figure <= self.allowed  # NaN fails

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.claim}: {self.figure:.1e} (allowed {self.allowed:.0e})"


@dataclass(frozen=True)
class Verification:
    """The table of all solvers on one problem, and the checks on it."""

    title: str
    comparison: Comparison
    checks: list[Check]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def __str__(self) -> str:
        return "\n".join([self.title, "", str(self.comparison), "", *map(str, self.checks)])


@dataclass(frozen=True)
class Case:
    """A problem to verify on; `labels` are the labels that the `ota` assigner gives, where it comes from an image."""

    title: str
    problem: TransportProblem
    labels: torch.Tensor | None = None


def verify(case: Case, eps: float = 0.1, max_iter: int = 50, repeats: int = 3) -> Verification:
    """Solve a case by every method; the exact ones must agree and prove it, Sinkhorn must equal POT's."""
    smoothed = {"eps": eps, "max_iter": max_iter}
    methods = [*EXACT, ("sinkhorn", smoothed), ("pot-sinkhorn", smoothed)]
    comparison = compare(case.problem, methods, repeats=repeats)
    exact = comparison.rows[: len(EXACT)]
    scale = max(1.0, abs(exact[0].objective))
    ours, pots = (solve(case.problem, method, **smoothed).plan for method in ("sinkhorn", "pot-sinkhorn"))
    apart = (row.objective - exact[0].objective for row in exact)
    rows, columns = ([getattr(row, name) for row in exact] for name in ("row_error", "col_error"))
    checks = [
        Check("exact solvers agree (relative)", worst(apart) / scale, EXACT_TOLERANCE),
        Check("exact solvers prove it (relative gap)", worst(r.relative_gap for r in exact), EXACT_TOLERANCE),
        Check("exact plans meet their sums", worst((*rows, *columns)), EXACT_TOLERANCE),
        Check("Sinkhorn equals POT's (largest plan entry)", (ours - pots).abs().max().item(), SINKHORN_TOLERANCE),
    ]
    if case.labels is not None:
        checks.append(Check("labels of `ota` cost the optimum (relative)", excess(case, exact[0].objective), 1e-9))
    return Verification(case.title, comparison, checks)


def worst(figures: Iterable[float]) -> float:
    """The largest figure by size; NaN if one is NaN, which Python's max may pass over."""
    return torch.tensor(list(figures), dtype=torch.float64).abs().max().item()


def excess(case: Case, optimum: float) -> float:
    """By how much the labels of a case cost more than the optimum, relative to it; labels, not plans, may tie."""
    cost = case.problem.cost
    owner = torch.where(case.labels >= 0, case.labels, len(cost) - 1)
    paid = cost.gather(0, owner[None]).sum().item()
    return abs(paid - optimum) / max(1.0, abs(optimum))


def toy_case() -> Case:
    """Two bakeries and a shop that stays open late serve six cafes: small enough to solve by hand."""
    cost = torch.tensor(
        [[2.0, 3.0, 1.0, 7.0, 6.0, 8.0], [6.0, 5.0, 4.0, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0, 5.0, 5.0]]
    ).double()
    return Case("toy: 3 suppliers, 6 demanders", TransportProblem(cost, torch.tensor([2.0, 2, 2]), torch.ones(6)))


def random_case(num_rows: int = 12, num_columns: int = 400, seed: int = 0) -> Case:
    """Uniform costs and integer supplies."""
    generator = torch.Generator().manual_seed(seed)
    cost = 10 * torch.rand(num_rows + 1, num_columns, generator=generator, dtype=torch.float64)
    supply = torch.randint(1, num_columns // num_rows, (num_rows,), generator=generator).double()
    supply = torch.cat((supply, (num_columns - supply.sum()).reshape(1)))
    title = f"random: {num_rows + 1} suppliers, {num_columns} demanders, seed {seed}"
    return Case(title, TransportProblem(cost, supply, torch.ones(num_columns)))


def image_case(title: str, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Case:
    """The problem that `ota` solves for one image, every point and forbidden pair included, and its labels."""
    assignment = build_assigner("ota")(points, predictions, targets)
    problem = TransportProblem(assignment.cost, assignment.supply, torch.ones(len(points)))
    return Case(title, problem, assignment.matched_gt)


def simulated_case(size: tuple[int, int] = (256, 320), num_gt: int = 12, num_classes: int = 80, seed: int = 0) -> Case:
    """An image in the middle of training, simulated."""
    generator = torch.Generator().manual_seed(seed)
    points = AnchorPoints.for_image(size)
    targets = random_targets(size, num_gt, num_classes, generator)
    predictions = simulate_predictions(points, targets, num_classes, generator)
    title = f"image {size[0]}x{size[1]} px, mid-training (simulated): {num_gt} gts, {len(points)} anchor points"
    return image_case(title, points, predictions, targets)


def detector_cases(model, dataset, count: int) -> Iterable[Case]:
    """The problems that a detector meets on the first `count` images of a data set that have gts."""
    found = 0
    for index in range(len(dataset)):
        image, target = dataset[index]
        if len(target["labels"]) == 0:
            continue
        points, (predictions,) = model.predict([image])
        targets = Targets(target["boxes"], target["labels"])
        title = f"image {int(target['image_id'])}, detector: {len(targets)} gts, {len(points)} anchor points"
        yield image_case(title, points, predictions.detach(), targets)
        found += 1
        if found == count:
            return
