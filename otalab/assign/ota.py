"""Optimal Transport Assignment, exact: every image of a batch in one linear program."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from otalab.assign.base import Assigner, all_background, in_float64
from otalab.assign.cost import Cost, dynamic_k, fixed_k
from otalab.assign.pairs import dense_cost, joined, price_pairs
from otalab.assign.prior import Candidates, ClosestPrior, RadiusPrior
from otalab.assign.relax import relax
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.errors import InputError
from otalab.transport.arcs import ArcProblem, ArcSolution
from otalab.transport.price_path import price_path

SOLVERS: dict[str, Callable[[ArcProblem], ArcSolution]] = {"price-path": price_path}
DEFICITS = ("drop", "relax", "raise")


@dataclass(frozen=True)
class OTA(Assigner):
    """Algorithm 1 solved exactly, in float64, on the admissible pairs alone.

    Where the authors' code errs, this does not: forbidden pairs are absent instead of dear, so no float32 sum can
    make a point of them; a gt whose prior holds no point gets the point nearest to it; gts that want more points than
    there are get what exists; equal gts with equal k get equally many.

    cost:  Eq. 2, see `Cost`
    prior: admissible pairs, see `otalab.assign.prior`
    q:     number of IoUs summed for the dynamic k; k: fixed supply (Eq. 4) instead, if not None
    solver: "price-path" (on the CPU: a batch travels there and back once)
    deficits: what to do where gts want more points than their priors hold:
        "drop"   leave out as few labels as possible, shared as evenly as possible, and only then at the least cost;
                 `Assignment.deficit` says whose
        "relax"  let any gt buy points outside its prior at `off_prior` on top of their cost: the linear program of
                 the paper, whose constant makes such pairs dear instead of absent
        "raise"  InputError
    """

    cost: Cost = field(default_factory=Cost)
    prior: RadiusPrior | ClosestPrior = field(default_factory=RadiusPrior)
    q: int = 20
    k: int | None = None
    solver: str = "price-path"
    deficits: str = "drop"
    off_prior: float = 100.0

    def __post_init__(self) -> None:
        for name, value, known in (("solver", self.solver, SOLVERS), ("deficits", self.deficits, DEFICITS)):
            if value not in known:
                raise InputError(f"{name} {value!r} is none of {', '.join(known)}")

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        return self.assign_images(points, [predictions], [targets])[0]

    def assign_images(
        self, points: AnchorPoints, predictions: Sequence[Predictions], targets: Sequence[Targets]
    ) -> list[Assignment]:
        """All images at once, as blocks of one problem."""
        counts = [len(t) for t in targets]
        if sum(counts) == 0:
            return [all_background(points) for _ in targets]
        boxes = joined([t.boxes for t in targets]).double()
        candidates = self.prior.candidates(points, boxes).or_nearest(points, boxes)
        iou, over = price_pairs(self.cost, points, predictions, targets, candidates.point)
        problem = self.arc_problem(iou, over, candidates, counts, len(points))
        found = SOLVERS[self.solver](problem)
        if self.deficits == "relax":
            found = relax(found, SOLVERS[self.solver], self.cost, self.off_prior, points, predictions, targets)
        elif self.deficits == "raise":
            refuse_deficit(found)
        return self.assignments(found, points, predictions, targets, candidates)

    def arc_problem(
        self,
        iou: Float[Tensor, "m s"],
        over: Float[Tensor, "m s"],
        candidates: Candidates,
        counts: list[int],
        num_points: int,
    ) -> ArcProblem:
        """The arcs of all gts; an image is a block."""
        device = iou.device
        if self.k is None:
            k = dynamic_k(iou.where(candidates.valid, 0.0), self.q, slack=1e-6)
        else:
            k = fixed_k(len(iou), self.k, device)
        image = torch.tensor([i for i, count in enumerate(counts) for _ in range(count)], device=device)
        column = candidates.point + (image * num_points)[:, None]
        return ArcProblem(over.where(candidates.valid, torch.inf), column, k, image, num_points, len(counts))

    def assignments(
        self,
        found: ArcSolution,
        points: AnchorPoints,
        predictions: Sequence[Predictions],
        targets: Sequence[Targets],
        candidates: Candidates,
    ) -> list[Assignment]:
        """The labels of each image; its dense problem is made when first asked for."""
        counts, n = [len(t) for t in targets], len(points)
        shipped, deficit = found.shipped.split(counts), found.deficit.split(counts)
        price, listed = found.price.split(counts), candidates.point.split(counts)
        valid, owner = candidates.valid.split(counts), found.owner.view(len(counts), n)
        off_prior = self.off_prior if self.deficits == "relax" else torch.inf
        assignments, first = [], 0
        for i, m in enumerate(counts):
            matched_gt = torch.where(owner[i] >= 0, owner[i] - first, -1)
            mine = Candidates(listed[i], valid[i])
            assignments.append(
                Assignment(
                    matched_gt=matched_gt,
                    supply=torch.cat((shipped[i], n - shipped[i].sum(dim=0, keepdim=True))),
                    deficit=deficit[i],
                    price=price[i],
                    make_cost=partial(full_cost, self.cost, points, predictions[i], targets[i], mine, off_prior),
                    make_plan=partial(one_hot_plan, matched_gt, m),
                )
            )
            first += m
        return assignments


def full_cost(
    cost: Cost,
    points: AnchorPoints,
    predictions: Predictions,
    targets: Targets,
    candidates: Candidates,
    off_prior: float,
) -> Float[Tensor, "m1 n"]:
    """The cost matrix of the whole problem of an image, background row last; `off_prior` on pairs not listed."""
    mask = candidates.mask(len(points))
    return dense_cost(cost, *in_float64(points, predictions, targets), mask, off_prior)[1]


def one_hot_plan(matched_gt: Int[Tensor, " n"], num_gt: int) -> Float[Tensor, "m1 n"]:
    """The integral plan of an assignment: one label to each point, from its gt or from the background (last row)."""
    owner = torch.where(matched_gt >= 0, matched_gt, num_gt)
    return torch.nn.functional.one_hot(owner, num_gt + 1).T.double()


def refuse_deficit(found: ArcSolution) -> None:
    """Raise InputError, naming the first gt, if a gt got fewer points than it wants."""
    short = found.deficit.nonzero()
    if len(short):
        row = int(short[0])
        block = found.problem.block
        place = f"gt {row - int((block < block[row]).sum())} of image {int(block[row])}"
        wanted, got = int(found.problem.k[row]), int(found.shipped[row])
        raise InputError(
            f"{place} wants {wanted} anchor points and only {got} are left to it in its prior ({len(short)} gts are "
            "short); lower q or k, enlarge the grid or the prior, or let deficits be 'drop' or 'relax'"
        )
