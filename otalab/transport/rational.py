"""Optimality without rounding, in exact fractions: every float64 is a whole multiple of a power of two.

A plan is optimal for its own row and column sums if no cycle of exchanges makes it cheaper. In an exchange, row i
passes a unit of a column j that it serves on to row k, which costs cost_kj - cost_ij more. For each i and k, only the
column where this is least matters: if no cycle over these m x m exchanges has negative cost, no other cycle has. So
only m^2 of the m n routes need exact arithmetic. Floats suffice to find the least exchange without error. The
difference d of two float64 numbers and its rounding error e are both float64 numbers (Knuth, The Art of Computer
Programming, vol. 2, Sec. 4.2.2). Rounding preserves order, so the pairs (d, e) sort as the true differences do.

The shortest paths over the m rows then give potentials f, in whole numbers, and g_j = cost_ij - f_i for a row i that
serves j. These potentials are feasible, because no exchange shortens a shortest path, and every route that carries
something is tight. If there is a cycle of negative cost instead, it is cancelled (Klein 1967): units move round it
until one of its routes is empty. Each such step lowers the cost, so the steps end.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float

Whole = np.ndarray  # of Python integers, which cannot overflow


@dataclass(frozen=True)
class ExactCertificate:
    """Figures of a plan and its proof as exact fractions; nothing is rounded, and there is no tolerance.

    objective       <plan, cost>; +inf (a float) if the plan uses a forbidden route
    dual_objective  <f, supply> + <g, demand>: a lower bound on the optimum. It equals the optimum if the plan is
                    optimal, or if the plan of the solver that supplies f and g meets all sums exactly
    row_error, col_error  the largest deviation of a row or column sum
    least_entry     the smallest entry of the plan
    f, g            potentials with f_i + g_j <= cost_ij on every route; +inf (a float) where no route leads to j
    """

    objective: Fraction | float
    dual_objective: Fraction
    row_error: Fraction
    col_error: Fraction
    least_entry: Fraction
    f: list[Fraction] = field(repr=False)
    g: list[Fraction | float] = field(repr=False)

    @property
    def gap(self) -> Fraction | float:
        """objective - dual_objective."""
        return self.objective - self.dual_objective

    def is_optimal(self) -> bool:
        """Whether the plan meets every sum exactly, has no negative entry, and has a gap of exactly 0."""
        return self.row_error == self.col_error == 0 <= self.least_entry and self.gap == 0

    def as_dict(self) -> dict[str, str]:
        """The figures as text, "p/q", for JSON."""
        return {name: str(getattr(self, name)) for name in FIGURES}

    def __str__(self) -> str:
        verdict = "optimal" if self.is_optimal() else "not optimal"
        return "\n".join(
            [verdict, *(f"  {name.replace('_', ' '):<15}{shown(getattr(self, name))}" for name in FIGURES)]
        )


FIGURES = ("objective", "dual_objective", "gap", "row_error", "col_error", "least_entry")


def shown(value: Fraction | float) -> str:
    """Format a fraction as a decimal, and also as p/q if that has at most 60 characters. Integers stay as they are."""
    fraction = str(value)
    if not isinstance(value, Fraction) or value.denominator == 1:
        return fraction
    return f"{float(value):.17g}" + (f" = {fraction}" if len(fraction) <= 60 else "...")


def exact_certificate(
    cost: Float[np.ndarray, "m n"],
    supply: Float[np.ndarray, " m"],
    demand: Float[np.ndarray, " n"],
    plan: Float[np.ndarray, "m n"],
    solve: Callable[[], Float[np.ndarray, "m n"]],
) -> ExactCertificate:
    """The certificate of a plan. If the plan is not optimal, `solve` supplies another one to find potentials from."""
    if plan.size == 0:
        return ExactCertificate(*[Fraction(0)] * 5, [Fraction(0)] * len(supply), [Fraction(0)] * len(demand))
    goods = unit_of(supply, demand, plan)
    offered, wanted, entries = (whole(units, goods) for units in (supply, demand, plan))
    row_error = max(abs(entries.sum(axis=1) - offered))
    col_error = max(abs(entries.sum(axis=0) - wanted))
    least = entries.min()

    is_open, used = np.isfinite(cost), plan != 0
    price = unit_of(cost[is_open])
    astray = bool((used & ~is_open).any())
    objective = np.inf if astray else sum(entries[used] * whole(cost[used], price))
    graph = ResidualGraph(cost, plan)
    if graph.cycle is not None or not (row_error == col_error == 0 <= least) or astray:
        graph = ResidualGraph(cost, solve())
        graph.cancel_cycles()
    f, g = graph.potentials()
    trading = np.flatnonzero(demand)
    dual = sum(f * offered) + sum(g[trading] * wanted[trading])

    def fraction(number, unit: int):
        return number if isinstance(number, float) else Fraction(number) * Fraction(2) ** unit

    return ExactCertificate(
        objective=fraction(objective, price + goods),
        dual_objective=fraction(dual, price + goods),
        row_error=fraction(row_error, goods),
        col_error=fraction(col_error, goods),
        least_entry=fraction(least, goods),
        f=[fraction(value, price) for value in f],
        g=[fraction(value, price) for value in g],
    )


def exact_excess(cost: Float[np.ndarray, "m n"], plan: Float[np.ndarray, "m n"], tol: float = math.inf) -> float:
    """How much the plan costs above the cheapest plan with equal sums, divided by <|plan|, |cost|>.

    The figure is computed exactly and rounded at the end; it is inf if a positive excess is divided by 0. As soon as
    it is known to be above `tol`, the part found so far is returned. Entries below 0 count as 0. The plan must not use
    a forbidden route.
    """
    graph = ResidualGraph(cost, plan.clip(min=0))
    paid = sum(graph.plan[graph.held] * abs(whole(cost[graph.held], graph.price)))
    saved = graph.cancel_cycles(math.inf if tol == math.inf else Fraction(tol) * paid)
    if saved == 0 or paid == 0:
        return math.inf if saved else 0.0
    return float(Fraction(saved, paid))


def optimal_plan(
    cost: Float[np.ndarray, "m n"], plan: Float[np.ndarray, "m n"]
) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, " m"], Float[np.ndarray, " n"]]:
    """The cheapest plan with the same sums, and its potentials f and g, each rounded to float64 at the end."""
    graph = ResidualGraph(cost, plan)
    graph.cancel_cycles()
    f, g = graph.potentials()
    return rounded(graph.plan, graph.goods), rounded(f, graph.price), rounded(g, graph.price)


def rounded(numbers: Whole, unit: int) -> Float[np.ndarray, "..."]:
    """Convert whole multiples of 2^unit to the nearest float64 numbers."""
    scale = Fraction(2) ** unit
    return np.array([float(x * scale) for x in numbers.ravel()]).reshape(numbers.shape)


class ResidualGraph:
    """The residual graph of a plan in whole numbers: its nodes are the rows, its edges the cheapest exchanges.

    price, goods  the units: costs and entries are whole multiples of 2^price and 2^goods
    plan, held    (m, n) the entries as multiples of 2^goods, and a mask of where they are positive
    cycle         rows of a cycle of exchanges with negative cost; None if there is none
    """

    def __init__(self, cost: Float[np.ndarray, "m n"], plan: Float[np.ndarray, "m n"]):
        self.cost, self.held = cost, (plan > 0) & np.isfinite(cost)
        self.price, self.goods = unit_of(cost[np.isfinite(cost)]), unit_of(plan)
        self.plan = np.zeros(plan.shape, dtype=object)
        self.plan[self.held] = whole(plan[self.held], self.goods)
        self._look()

    def _look(self) -> None:
        """Find the cheapest exchanges, the shortest paths over them, and a negative cycle if there is one."""
        self.exchanges = exchanges(self.cost, self.held, self.price)
        edges = [(i, k, more) for (i, k), (_, more) in self.exchanges.items()]
        self.path, self.cycle = shortest_paths(len(self.cost), edges)

    def cancel_cycles(self, enough: Fraction | float = np.inf) -> int:
        """Cancel negative cycles until none is left or more than `enough` is saved; return the total saved."""
        saved = 0
        while self.cycle is not None and saved <= enough:
            pairs = zip(self.cycle, self.cycle[1:] + self.cycle[:1], strict=True)
            steps = [(i, k, *self.exchanges[i, k]) for i, k in pairs]
            units = min(self.plan[i, j] for i, _, j, _ in steps)
            for i, k, j, more in steps:
                self.plan[i, j] -= units
                self.plan[k, j] += units
                self.held[i, j], self.held[k, j] = self.plan[i, j] > 0, True
                saved -= units * more
            self._look()
        return saved

    def potentials(self) -> tuple[Whole, Whole]:
        """f of the rows and g_j = min_i (cost_ij - f_i), both in units of price. There must be no negative cycle."""
        f = np.array(self.path, dtype=object)
        server = self.held.argmax(axis=0)
        served = np.flatnonzero(self.held.any(axis=0))
        g = np.full(self.cost.shape[1], np.inf, dtype=object)
        g[served] = whole(self.cost[server[served], served], self.price) - f[server[served]]
        for j in np.flatnonzero(~self.held.any(axis=0)):
            rows = np.flatnonzero(np.isfinite(self.cost[:, j]))
            g[j] = min(whole(self.cost[rows, j], self.price) - f[rows], default=np.inf)
        return f, g


def exchanges(
    cost: Float[np.ndarray, "m n"], held: Bool[np.ndarray, "m n"], price: int
) -> dict[tuple[int, int], tuple[int, int]]:
    """For rows i and k, the column of i that k would serve at the least extra cost, and that exact cost.

    Costs are in units of 2^price. Pairs of rows between which no exchange is possible are left out.
    """
    found = {}
    for i in range(len(cost)):
        columns = np.flatnonzero(held[i])
        if len(columns) == 0:
            continue
        other, own = cost[:, columns], cost[i, columns]
        with np.errstate(invalid="ignore"):  # inf - inf, on forbidden routes
            rounded = other - own
            back = rounded - other
            lost = (other - (rounded - back)) - (own + back)
        least = rounded.min(axis=1, keepdims=True)
        chosen = columns[np.where(rounded == least, lost, np.inf).argmin(axis=1)]
        others = np.flatnonzero(np.isfinite(least[:, 0]) & (np.arange(len(cost)) != i))
        column = chosen[others]
        extra = whole(cost[others, column], price) - whole(cost[i, column], price)
        for k, j, more in zip(others.tolist(), column.tolist(), extra, strict=True):
            found[i, k] = j, more
    return found


def shortest_paths(nodes: int, edges: list[tuple[int, int, int]]) -> tuple[list[int], list[int] | None]:
    """Lengths (<= 0) of the shortest paths to each node from any node, and a negative cycle or None.

    An edge (i, k, w) leads from i to k. If there is a negative cycle, the lengths mean nothing. The cycle is found by
    following predecessors.
    Source: Bellman 1958, Ford 1956.
    """
    length, before, last = [0] * nodes, [-1] * nodes, -1
    for _ in range(nodes):
        last = -1
        for i, k, w in edges:
            if length[i] + w < length[k]:
                length[k], before[k], last = length[i] + w, i, k
        if last < 0:
            return length, None
    for _ in range(nodes):  # so many steps back reach the cycle
        last = before[last]
    cycle, at = [last], before[last]
    while at != last:
        cycle.append(at)
        at = before[at]
    return length, cycle[::-1]


def unit_of(*arrays: Float[np.ndarray, "..."]) -> int:
    """An exponent u such that all numbers are whole multiples of 2^u, from the smallest number's exponent.

    A larger u may exist, because trailing zeros of the mantissas are not counted.
    """
    exponents = [np.frexp(values[values != 0])[1] for values in arrays]
    return min((int(e.min()) for e in exponents if e.size), default=53) - 53


def whole(values: Float[np.ndarray, "..."], unit: int) -> Whole:
    """Convert finite float64 numbers, whole multiples of 2^unit, to Python integers in that unit."""
    mantissa, exponent = np.frexp(values)
    mantissa = (mantissa * 2.0**53).astype(np.int64).astype(object)
    return mantissa << np.maximum(exponent.astype(np.int64) - 53 - unit, 0).astype(object)
