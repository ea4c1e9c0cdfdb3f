"""The checker of lesson 08 takes any way to the shortest augmenting path, and tells other paths apart."""

from itertools import pairwise, permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from otalab.lessons import lesson08
from otalab.transport import TransportProblem, solve


def wanted(cost, owner, gt):
    counts = torch.bincount(owner + 1, minlength=len(cost) + 1)[1:]
    counts[gt] += 1
    return counts


def by_matching(cost, owner, gt):
    copies = torch.arange(len(cost)).repeat_interleave(wanted(cost, owner, gt))
    rows, columns = linear_sum_assignment(cost[copies].numpy())
    labels = torch.full_like(owner, -1)
    labels[columns] = copies[rows]
    return labels


def by_linear_program(cost, owner, gt):
    counts, n = wanted(cost, owner, gt), cost.shape[1]
    supply = torch.cat((counts, n - counts.sum(dim=0, keepdim=True)))
    labels = solve(TransportProblem(torch.cat((cost, 0 * cost[:1])), supply, torch.ones(n)), method="linprog").labels
    return labels.where(labels < len(cost), -1)


def arcs(cost, owner):
    """From each gt to each other the cheapest step, and the point that it takes; from each gt its cheapest end."""
    m = len(cost)
    step = torch.full((m, m), torch.inf, dtype=cost.dtype)
    point = torch.zeros(m, m, dtype=torch.int64)
    for loser in range(m):
        mine = (owner == loser).nonzero().flatten()
        if len(mine):
            least = (cost[:, mine] - cost[loser, mine]).min(dim=1)
            step[:, loser], point[:, loser] = least.values, mine[least.indices]
    return step.fill_diagonal_(torch.inf), point, cost.masked_fill(owner >= 0, torch.inf).min(dim=1)


def along(owner, chain, point, end):
    """The labels after a chain of gts."""
    labels = owner.clone()
    for taker, loser in pairwise(chain):
        labels[point[taker, loser]] = taker
    labels[end.indices[chain[-1]]] = chain[-1]
    return labels


def by_trying_all(cost, owner, gt):
    """Every chain through other gts, one after the other."""
    step, point, end = arcs(cost, owner)
    others = [i for i in range(len(cost)) if i != gt]
    chains = [(gt, *way) for length in range(len(cost)) for way in permutations(others, length)]
    spent = [sum(float(step[pair]) for pair in pairwise(way)) + float(end.values[way[-1]]) for way in chains]
    return along(owner, chains[spent.index(min(spent))], point, end)


def by_bellman_s_equation(cost, owner, gt):
    """What each gt has to pay for a point of its own, consequences included; then downhill."""
    step, point, end = arcs(cost, owner)
    price = end.values.clone()
    for _ in range(len(cost)):
        price = torch.minimum(price, (step + price).amin(dim=1))
    chain = [gt]
    while price[chain[-1]] < end.values[chain[-1]] - 1e-12:
        chain.append(int((step[chain[-1]] + price).argmin()))
    return along(owner, chain, point, end)


def by_longer_and_longer_chains(cost, owner, gt):
    """The best path through no other gt, through one, through two, and so on."""
    return lesson08.by_steps(cost, owner, gt, through=len(cost) - 1)


FIVE = [by_matching, by_linear_program, by_trying_all, by_bellman_s_equation, by_longer_and_longer_chains]


@pytest.mark.parametrize("answer", FIVE)
def test_every_way_to_the_shortest_path_passes_with_the_reason(answer):
    verdict = lesson08.check(answer)
    assert verdict.passed, verdict
    assert "exact optimum" in verdict.message


def test_the_solution_s_own_function_passes_on_a_list_and_an_array(solution):
    fed = solution("08")["fed"]
    for kind in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.int):
        assert lesson08.check(lambda cost, owner, gt, kind=kind: kind(fed(cost, owner, gt))).passed


def test_paths_of_one_to_four_steps_are_asked_for():
    steps = [int((lesson08.fed(*problem) != problem[1]).sum()) for problem in lesson08.problems()]
    assert steps == [2, 1, 2, 3, 4]


def test_path_after_path_ends_at_the_exact_optimum(solution):
    """30 crowds: what the verdict promises."""
    fed, repaired = solution("08")["fed"], 0
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        shared = 10 * torch.rand(16, generator=generator, dtype=torch.float64)
        cost = shared + 4 * torch.rand(5, 16, generator=generator, dtype=torch.float64)
        k = torch.randint(1, 4, (5,), generator=generator)
        owner = lesson08.by_price(cost, k)
        for gt in range(5):
            while lesson08.counts_of(owner, 5)[gt] < k[gt]:
                owner, repaired = fed(cost, owner, gt), repaired + 1
        assert torch.equal(owner, lesson08.matched(cost, k))
    assert repaired > 30


def rob(cost, owner, gt):
    """Take the cheapest point of all that are not its own, and let its owner go without."""
    labels = owner.clone()
    labels[cost[gt].masked_fill((owner == gt) | (owner < 0), torch.inf).argmin()] = gt
    return labels


def everybody(cost, owner, gt):
    return lesson08.matched(cost, wanted(cost, owner, gt) + 1)


def another(cost, owner, gt):
    return lesson08.fed(cost, owner, (gt + 1) % len(cost))


def spendthrift(cost, owner, gt):
    """The dearest free point."""
    labels = owner.clone()
    labels[cost[gt].masked_fill(owner >= 0, -torch.inf).argmax()] = gt
    return labels


def greedy(cost, owner, gt):
    """The cheapest point of all; whoever had it takes the cheapest free one."""
    labels = owner.clone()
    point = cost[gt].masked_fill(owner == gt, torch.inf).argmin()
    loser = owner[point]
    labels[point] = gt
    if loser >= 0:
        labels[cost[loser].masked_fill(labels >= 0, torch.inf).argmin()] = loser
    return labels


def steps(through, refund=True):
    return lambda cost, owner, gt: lesson08.by_steps(cost, owner, gt, through, refund)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda cost, owner, gt: owner, "as short as before"),
        (another, "as short as before"),
        (rob, "takes another"),
        (rob, "has 1 point before"),
        (everybody, "gives one point more"),
        (steps(0), "one step"),
        (steps(1), "through one other gt"),
        (steps(9, refund=False), "no longer pays"),
        (spendthrift, "What does a step cost"),
        (greedy, "may begin with a dear step"),
        (lambda cost, owner, gt: torch.full_like(owner, 99), "gts are -1 to"),
        (lambda cost, owner, gt: 1 / 0, "ZeroDivisionError"),
        (lambda cost, owner, gt: None, "NoneType"),
        (lambda cost, owner, gt: cost, "have the shape"),
        (lambda cost, owner, gt: cost[0] + 0.5, "whole numbers"),
        (lambda cost: cost, "TypeError"),
    ],
)
def test_a_wrong_path_gets_the_hint_that_fits_it(answer, said):
    verdict = lesson08.check(answer)
    assert not verdict.passed and said in verdict.message


@pytest.mark.parametrize("answer", [None, 3, "by price", torch.zeros(5)])
def test_what_is_no_function_gets_a_hint(answer):
    verdict = lesson08.check(answer)
    assert not verdict.passed and "function" in verdict.message
