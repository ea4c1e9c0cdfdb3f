"""Lesson 02: random towns, and a checker that asks for a problem of similar costs on which 50 Sinkhorn steps fail."""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from otalab.errors import InputError
from otalab.lab.simulate import seeded
from otalab.lessons.verdict import Hint, checker, hint_if, missing, numbers
from otalab.transport import TransportProblem, solve

EPS, STEPS, ALLOWED = 0.4, 50, 0.01  # eps, iterations, and how far a cafe may be off, in loaves
MOST_ROWS, MOST_COLUMNS = 6, 40


@dataclass(frozen=True, eq=False)
class Town:
    """Bakeries, a bread factory in a corner, which has the most loaves, and cafes that want one loaf each.

    suppliers  (m, 2) places in km, the factory's last
    cafes      (n, 2) places in km
    """

    problem: TransportProblem
    suppliers: Float[Tensor, "m 2"]
    cafes: Float[Tensor, "n 2"]


def town(seed: int, bakeries: int = 4, cafes: int = 60) -> Town:
    """Draw a random town of 1 x 1 km. A loaf costs 1 (2 from the factory) plus 4 per km, and all roads are open.

    An equal share would be cafes / (bakeries + 1) loaves, rounded down. Each bakery has between half of a share and a
    whole one, and the factory has the rest.

    Raises InputError for fewer cafes than bakeries, and for a seed that is negative or too large.
    """
    generator = seeded(seed)
    where = torch.rand(bakeries + cafes, 2, generator=generator, dtype=torch.float64)
    suppliers = torch.cat((where[:bakeries], torch.zeros(1, 2).double()))
    share = max(1, cafes // (bakeries + 1))
    supply = torch.randint((share + 1) // 2, share + 1, (bakeries,), generator=generator).double()
    supply = torch.cat((supply, (cafes - supply.sum()).reshape(1)))
    cost = 1 + 4 * torch.cdist(suppliers, where[bakeries:])  # (m, n)
    cost[-1] += 1
    return Town(TransportProblem(cost, supply, torch.ones(cafes)), suppliers, where[bakeries:])


@checker
def check(cost, supply) -> str:
    """Check that Sinkhorn is more than 1 % of a loaf off at some cafe after 50 steps at eps 0.4.

    Costs must lie in 0..1 or be inf, and a feasible plan must exist.
    """
    hint_if(missing(cost, supply), "Give cost, a list of rows, and supply. Two suppliers and a few cafes are enough.")
    costs, units = numbers(cost), numbers(supply)
    rows = costs is not None and costs.ndim == 2 and costs.numel() and units is not None and units.ndim == 1
    hint_if(not rows, "cost must be rows of numbers, all rows as long, and supply a list of numbers.")
    m, n = costs.shape
    if not (2 <= m <= MOST_ROWS and 2 <= n <= MOST_COLUMNS):
        raise Hint(f"cost has {m} rows and {n} columns; take 2 to {MOST_ROWS} rows and 2 to {MOST_COLUMNS} columns.")
    is_open = costs < torch.inf
    outside = costs[is_open & ((costs < 0) | (costs > 1))]
    hint_if(costs.isnan().any(), "A cost is not a number.")
    if outside.numel():
        raise Hint(
            f"A cost of {outside[0]:g} is not allowed: from 0 to 1, or inf for a closed road. With costs far apart "
            "it is easy, for all depends on cost / eps; the art is to do it without."
        )
    if len(units) != m or not units.equal(units.round()) or units.min() < 1 or units.sum() != n:
        raise Hint(f"supply needs {m} whole numbers of at least 1 that sum to {n}, one loaf for each cafe.")
    stuck = ~is_open.any(0)
    hint_if(stuck.any(), f"No road leads to cafe {int(stuck.byte().argmax())}.")
    try:
        problem = TransportProblem(costs, units, torch.ones(n))
        solve(problem, "emd")
    except InputError as error:
        raise Hint("No plan delivers: somebody has more loaves than the open roads can take. Open one.") from error
    found = solve(problem, "sinkhorn", eps=EPS, max_iter=STEPS)
    off = float(found.certificate.col_error)
    if off <= ALLOWED:
        raise Hint(f"After {STEPS} steps the worst cafe is off by {off:.2%} of a loaf. {advice(is_open, units)}")
    needed = (steps_needed(problem, eps) for eps in (EPS, EPS / 4))
    count, other = ("over 5,000" if steps is None else steps for steps in needed)
    return (
        f"After {STEPS} steps a cafe is still off by {off:.1%} of a loaf; it takes {count} steps to 1 %, and {other} "
        f"at eps {EPS / 4:g}. Somebody has no choice: {forced(is_open, units)}. The blurred plan always leaves others "
        "a share of those loaves; it goes down as 1 / t, however large eps is."
    )


def steps_needed(problem: TransportProblem, eps: float, most: int = 5000) -> int | None:
    """Sinkhorn iterations until no column sum is off by more than ALLOWED; None if `most` do not suffice."""
    with warnings.catch_warnings(action="ignore"):  # that the tolerance was missed, which `converged` says too
        found = solve(problem, "sinkhorn", eps=eps, max_iter=most, tol=ALLOWED, check_every=1)
    return found.iterations if bool(found.converged) else None


def tight_groups(is_open: Tensor, supply: Tensor) -> list[tuple[list[int], bool]]:
    """Groups of suppliers that have exactly as many loaves as cafes in reach.

    Each group comes with whether another supplier reaches one of those cafes too.
    """
    m = len(supply)
    found = []
    for bits in range(1, 2**m - 1):
        rows = [i for i in range(m) if bits >> i & 1]
        reach = is_open[rows].any(0)
        if supply[rows].sum() == reach.sum():
            others = [i for i in range(m) if i not in rows]
            found.append((rows, bool((is_open[others].any(0) & reach).any())))
    return found


def forced(is_open: Tensor, supply: Tensor) -> str:
    """Say which suppliers have as many loaves as they reach cafes, and compete with others for these cafes."""
    rows = next((rows for rows, contested in tight_groups(is_open, supply) if contested), None)
    if rows is None:
        return "see whose loaves equal their open roads"
    who = f"supplier {rows[0]} has" if len(rows) == 1 else f"suppliers {', '.join(map(str, rows))} together have"
    return f"{who} as many loaves as they reach cafes, and others reach these too"


def advice(is_open: Tensor, supply: Tensor) -> str:
    """Hint for a problem that Sinkhorn does solve within the steps: what to try next."""
    if bool(is_open.all()):
        return "All roads are open, so everybody has a choice. Close some (inf): when is there none left?"
    tight = tight_groups(is_open, supply)
    if not tight:
        return "Some roads are closed, yet each supplier reaches more cafes than it has loaves. Close one more."
    if not any(contested for _, contested in tight):
        return "A supplier has as many loaves as roads, but nobody else reaches its cafes: no one competes for them."
    return (
        "Somebody has no choice, so it is nearly there. But the others lose so much by it that they soon give way: "
        "let them have many more loaves, for cafes of their own."
    )
