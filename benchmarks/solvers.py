"""The solvers on the cost matrix of one image: seconds, and how far their labels are off the exact ones.

python -m benchmarks.solvers [--rounds N] [--quick]
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.cases import Case, make_case, scenes
from benchmarks.common import run, shown
from benchmarks.peers import ARC_PEERS, FULL_PEERS, installed, pot_batch
from benchmarks.ways import Answer, by_presolve, one_by_one, ours
from otalab.lab.timing import Table, TableRow, Timer, Timing, column, paired, textbook_sinkhorn, timings
from otalab.transport import certify, solve
from otalab.transport.arcs import ArcProblem, ArcSolution
from otalab.transport.augmenting_path import augmenting_path
from otalab.transport.sinkhorn import log_sum_exp

TIE = 1e-12  # objectives that differ by less, relatively, count as equal
BUDGET = 20.0  # seconds for each way of a table; slow ways take part in fewer rounds


@dataclass(frozen=True)
class Checked(Timing):
    """A timing, the number of labels that differ from the exact ones, and the relative duality gap of the prices."""

    labels_off: int = column("labels", ">9")
    gap: float | None = column("gap", ">10", ".1e")


def solvers_table(case: Case, timer: Timer) -> Table:
    """Time every way on the full cost matrix."""
    ways = {
        "textbook Sinkhorn, 50 iterations": one_by_one(case, textbook_sinkhorn),
        "textbook Sinkhorn, exponents clamped at -80": one_by_one(case, textbook_sinkhorn, log_sum_exp=log_sum_exp),
        **ours(case),
    }
    small = case.cost.numel() < 10**6
    for name, peer in installed(FULL_PEERS).items():
        if small or "emd" not in name:  # the network simplex takes minutes on the largest cases
            ways[name] = one_by_one(case, peer)
    if len(case.cost) > 1:
        ways["POT solve_batch, log_sinkhorn, 50 iterations"] = lambda: Answer(pot_batch(case.cost, case.supply))
    return Table(case.name, case.task, timer.rounds, checked(case, ways, timer))


def checked(case: Case, ways: dict[str, Callable[[], Answer]], timer: Timer) -> list[Checked]:
    """One row per way, with its answer compared to that of SciPy's assignment solver."""
    exact = solve(case.problem(), "assignment").labels
    found = {way: find() for way, find in ways.items()}
    rows = timings(timer(ways))
    return [
        Checked(row.way, row.seconds, row.speed_up, row.clamped_speed_up, *faults(case, found[row.way], exact))
        for row in rows
    ]


def faults(case: Case, answer: Answer, exact: Int[Tensor, "B n"]) -> tuple[int, float | None]:
    """Number of labels that differ from the exact ones, and the largest relative gap of the prices, if there are any.

    If every row ships its k at the cost of the optimum, the labels are a tie and the number is 0. If some row does not
    ship its k, there is no gap.
    """
    off = int((answer.labels != exact).sum())
    plan = torch.nn.functional.one_hot(answer.labels, case.cost.shape[1]).mT.double()
    if not torch.equal(plan.sum(dim=2), case.supply.double()):
        return off, None
    if torch.allclose(total(case, answer.labels), total(case, exact), rtol=TIE, atol=0.0):
        off = 0
    return off, None if answer.price is None else float(certify(case.problem(), plan, answer.price).relative_gap.max())


def total(case: Case, labels: Int[Tensor, "B n"]) -> Float[Tensor, " B"]:
    """The cost of the labels of each image."""
    return case.cost.gather(1, labels[:, None]).double().sum(dim=(1, 2))


@dataclass(frozen=True)
class ArcTiming(TableRow):
    """Median seconds of a solver on the arcs, and its time and labels compared with those of augmenting-path."""

    way: str = column("way", "<58")
    seconds: float = column("seconds", ">10", ".5f")
    times_augmenting_path: float = column("times as long", ">15", ".2f", "x")
    labels_off: int = column("labels", ">9")


def peers_table(case: Case, timer: Timer) -> Table:
    """Time exact solvers after the same presolve: from the arcs left of one image to the owners of its columns."""
    arcs = presolved(case)
    ways: dict[str, Callable] = {
        "augmenting-path, compiled": lambda: augmenting_path(arcs, compiled=True).owner.numpy(),
        "augmenting-path, numpy only": lambda: augmenting_path(arcs, compiled=False).owner.numpy(),
        **{name: partial(peer, arcs) for name, peer in installed(ARC_PEERS).items()},
    }
    solved = augmenting_path(arcs)
    presolve = by_presolve(case, lambda _: solved)
    owners = {way: find() for way, find in ways.items()}
    exact = owners["augmenting-path, compiled"]
    owners["presolve alone, from the matrix"] = exact
    seconds = timer(ways | {"presolve alone, from the matrix": presolve})
    own = seconds["augmenting-path, compiled"]
    rows = [
        ArcTiming(way, median(s), paired(s, own), owners_off(arcs, owners[way], exact)) for way, s in seconds.items()
    ]
    m, s = arcs.cost.shape
    task = f"the arcs that presolve leaves, {m} rows of {s}, {int(arcs.k.sum())} labels"
    return Table(f"{case.name}, presolved", task, timer.rounds, rows)


def owners_off(arcs: ArcProblem, owner: np.ndarray, exact: np.ndarray) -> int:
    """Number of columns with another owner; 0 for a tie (all rows get as many columns, at the same total cost)."""
    mine, best = (ArcSolution(arcs, torch.from_numpy(o), torch.zeros(len(arcs))) for o in (owner, exact))
    as_good = torch.allclose(mine.objective, best.objective, rtol=TIE, atol=0.0)
    return 0 if as_good and torch.equal(mine.shipped, best.shipped) else int((owner != exact).sum())


def presolved(case: Case) -> ArcProblem:
    """The arcs on which `augmenting_path` is called last."""
    seen: list[ArcProblem] = []

    def recording(arcs: ArcProblem) -> ArcSolution:
        seen.append(arcs)
        return augmenting_path(arcs)

    by_presolve(case, recording)()
    return seen[-1]


def tables(timer: Timer, quick: bool) -> list[Table]:
    """A table for each set of images; for single images also one of the peers on arcs."""
    done, timer = [], replace(timer, budget=BUDGET)
    for name, images in scenes(quick).items():
        case = make_case(name, images)
        done.append(shown(solvers_table(case, timer)))
        if len(images) == 1:
            done.append(shown(peers_table(case, timer)))
    return done


if __name__ == "__main__":
    sys.exit(run("solvers", __doc__.splitlines()[0], tables))
