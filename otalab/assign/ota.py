"""Optimal Transport Assignment, exact and fast: the labels of algorithm1.py, every image of a batch in one problem.

The steps of `OTA.assign_images` are those of `algorithm1`, in its order and its words, and cite the lines of the paper
that both carry out. What makes them fast: pairs outside the prior, all classes but a gt's own and the background's row
are never computed, and one solver call finds the labels of all images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor

from otalab.assign.base import Assigner, all_background, in_float64
from otalab.assign.cost import Cost, dynamic_k, fixed_k
from otalab.assign.pairs import dense_cost, joined, list_pairs, price_pairs
from otalab.assign.points import AnchorPoints
from otalab.assign.prior import Candidates, ClosestPrior, RadiusPrior
from otalab.assign.relax import Outside, relax
from otalab.assign.types import Assignment, Predictions, Targets
from otalab.assign.upload import upload
from otalab.errors import InputError, current
from otalab.transport.arc_sinkhorn import arc_sinkhorn
from otalab.transport.arcs import ArcProblem, ArcSolution
from otalab.transport.auction import auction
from otalab.transport.augmenting_path import augmenting_path
from otalab.transport.methods import RENAMED
from otalab.transport.sinkhorn import check_options

EXACT_SOLVERS: dict[str, Callable[[ArcProblem], ArcSolution]] = {"augmenting-path": augmenting_path, "auction": auction}
SOLVERS = (*EXACT_SOLVERS, "sinkhorn")
DEFICITS = ("drop", "relax", "raise")


@dataclass(frozen=True)
class OTA(Assigner):
    """Algorithm 1 solved exactly, in float64, on the admissible pairs alone; `algorithm1` defines its labels.

    Where the authors' code errs, this does not: forbidden pairs are absent instead of dear, so no float32 sum can
    make a point of them; a gt between the points gets the nearest, if less than a stride away; gts that want more
    points than there are get what exists; equal gts with equal k get equally many, as far as whole points allow.

    cost:  Eq. 2, see `Cost`
    prior: admissible pairs, see `otalab.assign.prior`
    q:     number of IoUs summed for the dynamic k; k: fixed supply (Eq. 4) instead, if not None
    solver: "augmenting-path" (exact, on the CPU: a batch travels there and back in one transfer each), "auction"
            (exact, on the device of the input; a batch with a deficit goes to augmenting-path, which shares) or
            "sinkhorn" (approximate, on the device; a gt may get more or fewer points than its k)
    deficits: what to do where gts want more points than their priors hold:
        "drop"   leave out as few labels as possible, shared as evenly as possible, and only then at the least cost;
                 `Assignment.deficit` says whose
        "relax"  let any gt buy points outside its prior at `off_prior` on top of their cost: the linear program of
                 the paper, whose constant makes such pairs dear instead of absent
        "raise"  InputError
    eps, max_iter: gamma and T of Algorithm 1, for "sinkhorn" alone
    """

    cost: Cost = field(default_factory=Cost)
    prior: RadiusPrior | ClosestPrior = field(default_factory=RadiusPrior)
    q: int = 20
    k: int | None = None
    solver: str = "augmenting-path"
    deficits: str = "drop"
    off_prior: float = 100.0
    eps: float = 0.1
    max_iter: int = 50

    def __post_init__(self) -> None:
        object.__setattr__(self, "solver", current(self.solver, RENAMED))
        for name, value, known in (("solver", self.solver, SOLVERS), ("deficits", self.deficits, DEFICITS)):
            if value not in known:
                raise InputError(f"{name} {value!r} is none of {', '.join(known)}")
        check_options(eps=self.eps, max_iter=self.max_iter, tol=0.0)
        if not self.off_prior >= 0:
            raise InputError(f"off_prior must not be negative, not {self.off_prior}")
        if self.solver == "sinkhorn" and self.deficits != "drop":
            raise InputError(f"deficits {self.deficits!r} needs an exact solver: {' or '.join(EXACT_SOLVERS)}")

    def assign_images(
        self, points: AnchorPoints, predictions: Sequence[Predictions], targets: Sequence[Targets]
    ) -> list[Assignment]:
        """All images at once, as blocks of one problem."""
        counts = [len(t) for t in targets]  # lines 1 and 2
        if sum(counts) == 0:
            return [self.background_only(points, p, t) for p, t in zip(predictions, targets, strict=True)]
        gts = joined([t.boxes for t in targets]).double()
        image = upload([i for i, count in enumerate(counts) for _ in range(count)], gts.device)
        # line 8: a gt's candidates by arithmetic on the grid of points, and from here on no other pair
        candidates = self.prior.candidates(points, gts).or_nearest(points, gts)
        gt, slot, point, listed, pairs = list_pairs(candidates, image, len(counts))
        # lines 9, 6, 7, 10 and 11: what a label costs over the background's; all classes but the gt's own cancel
        iou, over = price_pairs(self.cost, points, predictions, targets, gt, point, pairs)
        # line 3: dynamic k, from the candidates' IoUs
        k = self.supplies(iou.new_zeros(listed.point.shape).index_put_((gt, slot), iou))
        # lines 4 and 5: the background, which is free now, takes what is left and needs no row
        problem = ArcProblem(
            cost=over.new_full(listed.point.shape, torch.inf).index_put_((gt, slot), over),
            column=listed.point + (image * len(points))[:, None],
            k=k,
            block=image,
            width=len(points),
            blocks=len(counts),
        )
        # lines 12 to 15: a row per gt, not per label; most gts get their k points by price, without a search
        found = self.solve(problem)
        if self.deficits == "relax":
            outside = Outside(self.cost, self.off_prior, points, predictions, targets)
            found = relax(found, EXACT_SOLVERS[self.solver], outside)
        elif self.deficits == "raise":
            refuse_deficit(found)
        return self.assignments(found, points, predictions, targets, listed)  # line 16

    def solve(self, problem: ArcProblem) -> ArcSolution:
        """Who gets each point, by the chosen solver."""
        if self.solver == "sinkhorn":
            soft = arc_sinkhorn(problem, eps=self.eps, max_iter=self.max_iter)
            return ArcSolution(problem, soft.labels(), soft.price)
        found = EXACT_SOLVERS[self.solver](problem)
        if self.solver != "augmenting-path" and self.deficits == "drop" and bool((found.deficit > 0).any()):
            return augmenting_path(problem)
        return found

    def supplies(self, iou: Float[Tensor, "m s"]) -> Int[Tensor, " m"]:
        """What each gt offers, from the IoUs of its candidates or fixed."""
        if self.k is None:
            return dynamic_k(iou, self.q, slack=1e-6)
        return fixed_k(len(iou), self.k, iou.device)

    def background_only(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        """The assignment of an image without gts: its problem has the background's row alone."""
        found, none = (
            all_background(points),
            Candidates.of_mask(torch.ones(0, len(points), device=points.xy.device) > 0),
        )
        return replace(
            found,
            price=torch.zeros(0, dtype=torch.float64, device=points.xy.device),
            make_cost=partial(full_cost, self.cost, points, predictions, targets, none, self.off_prior),
            make_plan=partial(one_hot_plan, found.matched_gt, 0),
        )

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
        first = upload([0, *accumulate(counts)][:-1], found.owner.device)[:, None]
        owner = found.owner.view(len(counts), n)
        matched_gt = torch.where(owner >= 0, owner - first, -1)
        background = (n - (owner >= 0).sum(dim=1)).split(1)
        by_gt = found.shipped, found.deficit.clamp(min=0), found.price, candidates.point, candidates.valid
        off_prior = self.off_prior if self.deficits == "relax" else torch.inf
        return [
            Assignment(
                matched_gt=labels,
                supply=torch.cat((shipped, rest)),
                deficit=deficit,
                price=price,
                make_cost=partial(full_cost, self.cost, points, p, t, Candidates(point, valid), off_prior),
                make_plan=partial(one_hot_plan, labels, len(t)),
            )
            if len(t)
            else self.background_only(points, p, t)
            for labels, rest, p, t, shipped, deficit, price, point, valid in zip(
                matched_gt, background, predictions, targets, *(x.split(counts) for x in by_gt), strict=True
            )
        ]


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
