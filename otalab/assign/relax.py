"""Deficits relaxed: points outside the prior at a constant on top of their cost, as in the paper."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from otalab.assign.cost import CLASSIFICATION, Cost
from otalab.assign.pairs import price_pairs
from otalab.assign.types import AnchorPoints, Predictions, Targets
from otalab.transport.arcs import ArcProblem, ArcSolution


def relax(
    found: ArcSolution,
    solve: Callable[[ArcProblem], ArcSolution],
    cost: Cost,
    off_prior: float,
    points: AnchorPoints,
    predictions: Sequence[Predictions],
    targets: Sequence[Targets],
) -> ArcSolution:
    """The optimum when each gt may also get any point outside its prior, for `off_prior` more than it costs.

    Exact, though few gts ever look outside: one whose price does not exceed the least that an outside point can cost
    has no use for one. The others get arcs to as many of their cheapest points as their image has labels to give,
    which is all that they could need, and the problem is solved again.
    """
    least = off_prior + least_cost(cost, predictions)[found.problem.block]  # (m,)
    opened = torch.zeros_like(found.deficit, dtype=torch.bool)
    while True:
        wants_more = ~opened & ((found.deficit > 0) | (found.price > least))
        if not wants_more.any():
            return found
        opened |= wants_more
        found = solve(with_outside(found.problem, wants_more, cost, off_prior, points, predictions, targets))


def least_cost(cost: Cost, predictions: Sequence[Predictions]) -> Float[Tensor, " images"]:
    """What no pair of an image costs less than, over the background, whose loss rises with the logit."""
    top = torch.stack([p.logits.amax() for p in predictions]).double()
    return -CLASSIFICATION[cost.cls](top, positive=False)


def with_outside(
    problem: ArcProblem,
    rows: Bool[Tensor, " m"],
    cost: Cost,
    off_prior: float,
    points: AnchorPoints,
    predictions: Sequence[Predictions],
    targets: Sequence[Targets],
) -> ArcProblem:
    """The problem with the arcs of `rows` replaced by their cheapest points of all, in and outside the prior."""
    chosen = rows.nonzero().squeeze(1)
    some = [
        replace(t, boxes=t.boxes[part], labels=t.labels[part])
        for t, part in zip(targets, rows.split([len(t) for t in targets]), strict=True)
    ]
    offset = (problem.block[chosen] * problem.width)[:, None]
    row = torch.arange(len(chosen), device=rows.device).repeat_interleave(problem.width)
    point = torch.arange(problem.width, device=rows.device).repeat(len(chosen))
    counts = [len(t) * problem.width for t in some]
    dear = price_pairs(cost, points, predictions, some, row, point, counts)[1].view(len(chosen), -1) + off_prior
    price = dear.scatter_reduce(1, problem.column[chosen] - offset, problem.cost[chosen], "amin")  # inside: no constant
    enough = min(problem.width, int(problem.per_block(problem.k.double()).max()))
    values, point = price.topk(enough, dim=1, largest=False)

    slots = max(enough, problem.cost.shape[1])
    new_cost = problem.cost.new_full((len(problem), slots), torch.inf)
    new_column = problem.column.new_zeros(len(problem), slots)
    new_cost[:, : problem.cost.shape[1]], new_column[:, : problem.cost.shape[1]] = problem.cost, problem.column
    new_cost[chosen] = torch.inf
    new_cost[chosen, :enough], new_column[chosen, :enough] = values, point + offset
    return replace(problem, cost=new_cost, column=new_column)
