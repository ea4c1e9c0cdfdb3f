"""Lesson 08: SimOTA with its conflicts settled by price."""

from functools import cache

import torch
from torch import Tensor

from otalab.assign.base import best, top_k
from otalab.assign.simota import kth_cost
from otalab.lessons.verdict import Hint, ask, checker, hint_if, numbers


@cache
def problems() -> list[tuple[Tensor, Tensor]]:
    """Costs, no two of them equal, and ks: a problem that can be settled by hand, and random crowds."""
    tiny = torch.tensor([[1.0, 2.1, 3.0, 8.0, 9.0], [2.0, 6.0, 9.3, 7.0, 9.1]], dtype=torch.float64)
    found = [(tiny, torch.tensor([2, 2]))]
    generator = torch.Generator().manual_seed(8)
    for m, n in ((2, 6), (3, 8), (5, 12), (8, 30), (8, 30)):
        shared = 10 * torch.rand(n, generator=generator, dtype=torch.float64)  # what makes points dear to all
        cost = shared + 4 * torch.rand(m, n, generator=generator, dtype=torch.float64)
        found.append((cost, torch.randint(1, n // 2 + 1, (m,), generator=generator)))
    return found


def settled(cost: Tensor, k: Tensor, by: str) -> Tensor:
    """SimOTA's labels: each point to the least "cost", or to the largest gain ("price"), of those who took it."""
    taken = top_k(-cost, k)
    if by == "cost":
        return best(-cost, taken)
    gain = gains(cost, k).masked_fill(~taken, -torch.inf)
    return best(-cost, taken & (gain == gain.amax(dim=0)))


@checker
def check(repaired=None) -> str:
    """Whether `repaired(cost, k)` gives contested points to the gt that gains most by them."""
    no_function = not callable(repaired)
    hint_if(no_function, "The answer is a function: repaired(cost, k) gives the gt of each point, -1 for none.")
    triples = []
    for cost, k in problems():
        labels, n = ask(repaired, "repaired(cost, k)", cost.clone(), k.clone()), cost.shape[1]
        found = numbers(labels)
        what = type(labels).__name__ if found is None else tuple(found.shape)
        hint_if(what != (n,), f"With costs {tuple(cost.shape)}, the labels have the shape ({n},), not {what}.")
        hint_if((found != found.round()).any(), f"Labels are whole numbers, not {found.tolist()}.")
        triples.append((cost, k, found.long()))
    if not all(torch.equal(labels, settled(cost, k, "price")) for cost, k, labels in triples):
        raise Hint(hint(triples))
    return (
        f"It equals simota-price on {len(triples)} problems. A point goes to the gt that would lose most without "
        "it; for the numbers of points that the gts got, no other labels cost less."
    )


def hint(triples: list[tuple[Tensor, Tensor, Tensor]]) -> str:
    """What to think of, for labels that differ from those settled by price."""
    for cost, k, labels in triples:
        taken = top_k(-cost, k)
        wanted = taken.any(dim=0)
        if (labels[~wanted] != -1).any():
            return "A point that no gt took is nobody's: its label is -1."
        if (labels[wanted] == -1).any():
            return "A point that some gt took has a label."
        if ((labels < -1) | (labels >= len(k))).any():
            return f"Labels of {len(k)} gts are -1 to {len(k) - 1}."
        if not taken.gather(0, labels.clamp(min=0)[None])[0][wanted].all():
            return "Only gts that took a point can win it: a gain of one who did not take it must not count."
    if all(torch.equal(labels, settled(cost, k, "cost")) for cost, k, labels in triples):
        return "Conflicts still go to the least cost. What is a gt's price, and how far is the point below it?"

    def go_to_the_most(value) -> bool:
        return all(chosen_is_most(cost, k, labels, value(cost, k)) for cost, k, labels in triples)

    if go_to_the_most(gains):
        return "Several gts may gain equally, as two do whose k-th cheapest point it is. Then the least cost wins."
    if go_to_the_most(lambda cost, k: -gains(cost, k)):
        return "Points now go to those who gain least. Look at the sign: gain is how far cost lies below price."
    if go_to_the_most(lambda cost, k: kth_cost(cost, k).expand_as(cost)):
        return "A high price alone is no gain: how far is the point below it?"
    return "Some conflicts go astray. A gt's price is the cost of its k-th cheapest point, counted from 1; see its k."


def gains(cost: Tensor, k: Tensor) -> Tensor:
    """What each point is worth to each gt."""
    return kth_cost(cost, k) - cost


def chosen_is_most(cost: Tensor, k: Tensor, labels: Tensor, value: Tensor) -> bool:
    """Whether each point that was taken has a label of the largest value among those who took it."""
    taken = top_k(-cost, k)
    some = taken.any(dim=0)
    most = value.masked_fill(~taken, -torch.inf).amax(dim=0)
    chosen = value.gather(0, labels.clamp(min=0)[None])[0]
    return torch.equal(chosen[some], most[some])
