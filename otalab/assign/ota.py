"""Optimal Transport Assignment, exact and fast: the labels of algorithm1.py, with all images of a batch in one problem.

`OTA.assign_images` takes the steps of `algorithm1` in the same order and the same words, and cites the lines of the
paper that both carry out. It is fast for two reasons. It never computes pairs outside the prior, classes other than the
gt's own, or the background's row. And a single solver call finds the labels of all images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, in_float64
from otalab.assign.cost import Cost, dynamic_k, fixed_k
from otalab.assign.prior import ClosestPrior, RadiusPrior
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require, require_known
from otalab.errors import InputError, current
from otalab.transport.arc_sinkhorn import arc_sinkhorn
from otalab.transport.arcs import ArcProblem, ArcSolution
from otalab.transport.auction import auction
from otalab.transport.augmenting_path import augmenting_path
from otalab.transport.independent import independent
from otalab.transport.methods import RENAMED
from otalab.transport.sinkhorn import check_options


def auction_with_shares(problem: ArcProblem) -> ArcSolution:
    """Solve by auction; if there is a deficit, solve again by augmenting-path, which shares it evenly."""
    found = auction(problem)
    return augmenting_path(problem) if bool((found.deficit > 0).any()) else found


EXACT_SOLVERS: dict[str, Callable[[ArcProblem], ArcSolution]] = {
    "augmenting-path": augmenting_path,
    "auction": auction_with_shares,
}
SOLVERS = (*EXACT_SOLVERS, "sinkhorn", "independent")
DEFICITS = ("drop", "relax", "raise")
Images = Sequence[tuple[Predictions, Targets]]


@dataclass(frozen=True)
class OTA(Assigner):
    """Algorithm 1, solved exactly in float64 on the admissible pairs alone.

    With the default options, its labels are defined by `algorithm1`.

    It differs from the authors' code where that errs. Forbidden pairs are absent instead of expensive, so rounding
    cannot make them positive. A gt that lies between the points gets the nearest one, if that is less than a stride
    away. Gts that want more points than there are get those that exist. Equal gts with equal k get equally many points,
    as far as whole points allow.

    cost:  Eq. 2, see `Cost`
    prior: admissible pairs, see `otalab.assign.prior`
    q:     number of IoUs summed for the dynamic k
    k:     fixed supply of each gt (Eq. 4) instead of the dynamic k, if not None
    solver: "augmenting-path" is exact and runs on the CPU, with one transfer of the batch each way. "auction" is exact
            and runs on the device of the input; a batch with a deficit then goes to augmenting-path, which shares it
            evenly. "sinkhorn" is approximate and runs on the device; a gt may get more or fewer points than its k.
            "independent" makes no plan: each gt takes its k cheapest points, and a point that several gts take goes to
            the gt that pays least for it
    deficits: what to do if gts want more points than their priors hold:
        "drop"   leave out as few labels as possible, shared as evenly as possible among the gts, and only then minimise
                 the cost; `Assignment.deficit` counts what each gt lacks
        "relax"  let any gt take points outside its prior, at `off_prior` on top of their cost. This is the linear
                 program of the paper, whose constant makes such pairs expensive instead of absent. If a gt may gain by
                 this, all pairs are computed, which is slower
        "raise"  raise InputError
    eps, max_iter: gamma and T of Algorithm 1 and of `algorithm1`; used by "sinkhorn" alone
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

    @property
    def local(self) -> bool:
        return self.solver != "sinkhorn" and self.deficits != "relax"  # these look at all points

    def __post_init__(self) -> None:
        object.__setattr__(self, "solver", current(self.solver, RENAMED))
        require_known(SOLVERS, solver=self.solver)
        require_known(DEFICITS, deficits=self.deficits)
        check_options(eps=self.eps, max_iter=self.max_iter, tol=0.0)
        require("not be negative", off_prior=self.off_prior)
        require("be a whole number of at least 0", k=self.k or 0)
        require("be a whole number of at least 1", q=self.q)
        if self.solver not in EXACT_SOLVERS and self.deficits != "drop":
            raise InputError(f"deficits {self.deficits!r} needs an exact solver: {' or '.join(EXACT_SOLVERS)}")

    def assign_images(
        self, points: AnchorPoints, predictions: Sequence[Predictions], targets: Sequence[Targets]
    ) -> list[Assignment]:
        """Assign labels for all images at once, as blocks of one problem; their m gts are numbered consecutively."""
        images = list(zip(predictions, targets, strict=True))
        counts, n = [len(t.labels) for t in targets], len(points.xy)  # line 1
        gts = torch.cat([t.boxes for t in targets]).double()  # line 2: given, (m, 4)
        labels = torch.cat([t.labels for t in targets]).long()  # (m,)
        image = torch.cat([torch.full_like(t.labels, i, dtype=torch.int64) for i, t in enumerate(targets)])  # (m,)

        # line 8: each gt's candidates, by arithmetic on the grid of points; no other pair is used from here on
        candidates = self.prior.candidates(points, gts).or_nearest(points, gts)
        each = candidates.valid.sum(dim=1)  # (m,)
        lengths = each.tolist()  # the only wait for the device before the solver
        table = len(gts), max(lengths, default=0)  # a row for each gt, without the gaps in its list of candidates
        nth = torch.arange(sum(lengths), device=gts.device)  # (num_pairs,)
        place = torch.searchsorted(candidates.valid.flatten().cumsum(0), nth, right=True)  # of the nth valid candidate
        point, gt = candidates.point.flatten()[place], place // candidates.point.shape[1]  # (num_pairs,) each
        slot = nth - (each.cumsum(0) - each)[gt]

        # lines 9, 6, 7, 10 and 11: cost of a gt's label minus the background's; all classes but the gt's own cancel
        pairs = [sum(lengths[first:last]) for first, last in pairwise(accumulate(counts, initial=0))]  # per image
        parts = zip(predictions, point.split(pairs), labels[gt].split(pairs), strict=True)
        logits, boxes = zip(*((p.logits[at, label], p.boxes[at]) for p, at, label in parts), strict=True)
        logits, boxes = torch.cat(logits).double(), torch.cat(boxes).double()  # (num_pairs,), (num_pairs, 4)
        gt_boxes = gts[gt]
        iou = box_ops.iou(boxes, gt_boxes)
        over = self.cost.over_background(logits, iou, boxes, gt_boxes, points.stride[point].double())

        # line 3: dynamic k, from the candidates' IoUs
        iou = gts.new_zeros(table).index_put_((gt, slot), iou)
        k = dynamic_k(iou, self.q, slack=1e-6) if self.k is None else fixed_k(len(gts), self.k, gts.device)

        # lines 4 and 5: the background costs nothing after the subtraction; it takes the other points and needs no row
        problem = ArcProblem(
            cost=gts.new_full(table, torch.inf).index_put_((gt, slot), over),
            column=image.new_zeros(table).index_put_((gt, slot), point + image[gt] * n),
            k=k,
            block=image,
            width=n,
            blocks=len(counts),
        )

        # lines 12 to 15: one row per gt, not per label; prices alone give most gts their k points, without a search
        if self.solver == "sinkhorn":
            soft = arc_sinkhorn(problem, eps=self.eps, max_iter=self.max_iter)
            found = ArcSolution(problem, soft.labels(), soft.price)
        else:
            found = EXACT_SOLVERS.get(self.solver, independent)(problem)
        if self.deficits == "relax" and self.buys_outside(found, images):
            found = EXACT_SOLVERS[self.solver](self.relaxed(problem, points, images))
        return self.assignments(found, points, images)  # line 16

    def buys_outside(self, found: ArcSolution, images: Images) -> bool:
        """Whether any gt lacks a point, or has a price above `off_prior` plus the least possible cost of a point.

        The least possible cost is that of a predicted box equal to the gt, at the image's highest logit of its class.
        """
        logits = torch.cat([p.logits.amax(dim=0)[t.labels.long()] for p, t in images]).double()
        gts = torch.cat([t.boxes for _, t in images]).double()
        perfect_iou = stride = torch.ones_like(logits)
        least = self.cost.over_background(logits, perfect_iou, gts, gts, stride)
        return bool(((found.deficit > 0) | (found.price > least + self.off_prior)).any())

    def relaxed(self, problem: ArcProblem, points: AnchorPoints, images: Images) -> ArcProblem:
        """The problem with all points admissible, at `off_prior` more outside the prior; only the cheapest are kept.

        Each gt keeps one point more than any image of the batch has labels. At least one of these points stays free, so
        the gt's price is no higher than the cost of any point that it did not keep.
        """
        most, stride = int(problem.per_block(problem.k.double()).max()), points.stride.double()
        enough = min(most + 1, problem.width)
        cheapest = []
        for p, t in images:
            boxes, gts, logits = p.boxes.double(), t.boxes.double()[:, None], p.logits[:, t.labels.long()].T.double()
            over = self.cost.over_background(logits, box_ops.iou(boxes, gts), boxes, gts, stride)  # (m, n)
            over = over.where(self.admissible(points, t.boxes.double()), over + self.off_prior)
            cheapest.append(over.topk(enough, dim=1, largest=False))
        cost, point = (torch.cat(parts) for parts in zip(*cheapest, strict=True))
        return replace(problem, cost=cost, column=point + (problem.block * problem.width)[:, None])

    def assignments(self, found: ArcSolution, points: AnchorPoints, images: Images) -> list[Assignment]:
        """Split the solution into one assignment per image; its dense matrices are made on first access."""
        problem, shipped = found.problem, found.shipped  # (m,)
        if self.deficits == "raise":
            refuse_deficit(problem, shipped)
        first, assignments = 0, []
        for (p, t), own in zip(images, found.owner.split(problem.width), strict=True):
            rows = slice(first, first + len(t.labels))
            matched_gt, got = (own - first).clamp(min=-1), shipped[rows]
            first = rows.stop
            cut = Predictions(p.logits.detach(), p.boxes.detach())  # keeps no graph alive
            assignments.append(
                Assignment(
                    matched_gt=matched_gt,
                    supply=torch.cat((got, problem.width - got.sum(dim=0, keepdim=True))),
                    deficit=(problem.k[rows] - got).clamp(min=0),
                    price=found.price[rows],
                    make_cost=partial(self.full_cost, points, cut, t),
                    make_plan=partial(one_hot_plan, matched_gt, len(got)),
                )
            )
        return assignments

    def full_cost(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Float[Tensor, "m1 n"]:
        """The full cost matrix of an image, background row last."""
        off_prior = self.off_prior if self.deficits == "relax" else torch.inf
        points, predictions, targets = in_float64(points, predictions, targets)
        return self.cost.dense(points, predictions, targets, self.admissible(points, targets.boxes), off_prior)[1]

    def admissible(self, points: AnchorPoints, gts: Float[Tensor, "m 4"]) -> Bool[Tensor, "m n"]:
        """Mask of each gt's candidates."""
        return self.prior.candidates(points, gts).or_nearest(points, gts).mask(len(points))


def one_hot_plan(matched_gt: Int[Tensor, " n"], num_gt: int) -> Float[Tensor, "m1 n"]:
    """The integral plan of an assignment: each point gets one label, from its gt or from the background (last row)."""
    owner = torch.where(matched_gt >= 0, matched_gt, num_gt)
    return torch.nn.functional.one_hot(owner, num_gt + 1).T.double()


def refuse_deficit(problem: ArcProblem, shipped: Int[Tensor, " m"]) -> None:
    """Raise InputError if a gt got fewer points than it wants; the message names the first such gt."""
    short = (shipped < problem.k).nonzero()
    if len(short):
        row, block = int(short[0]), problem.block
        raise InputError(
            f"gt {row - int((block < block[row]).sum())} of image {int(block[row])} wants {int(problem.k[row])} anchor "
            f"points and only {int(shipped[row])} are left to it in its prior ({len(short)} gts are short); lower q or "
            "k, enlarge the grid or the prior, or let deficits be 'drop' or 'relax'"
        )
