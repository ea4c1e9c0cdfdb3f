"""A transport problem: who offers how much, who wants how much, and what each route costs."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from otalab.errors import InputError

INFEASIBLE = "no plan avoids the forbidden routes (cost +inf): some rows offer more than their open columns want"


@dataclass(frozen=True, eq=False, init=False)
class TransportProblem:
    """Minimise `sum_ij cost_ij plan_ij` over `plan >= 0` with row sums `supply` and column sums `demand`.

    OTA, Sec. 3.1, Eq. 1. Rows are suppliers, columns demanders. One problem, or a batch of equal shape:

        cost    (m, n) or (B, m, n)   price of one unit; may be negative; +inf forbids the route
        supply  (m,)   or (B, m)      units each row must ship, >= 0
        demand  (n,)   or (B, n)      units each column must get, >= 0

    Takes tensors, NumPy arrays and nested lists; the fields are tensors, detached. A tensor's device and dtype
    stay, and `cost` decides for all three; anything else becomes a CPU tensor. Half precision is widened to float32,
    since float16 cannot even hold a background's supply of 22,301; integers become float64.

    With a batched cost, a supply (m,) or demand (n,) is shared by all problems. A row or column of zero units takes
    no part, so it serves as padding. m = 0, n = 0 and B = 0 are problems like any other: nothing is shipped.

    Raises InputError, with the first index at fault, for NaN or -inf in `cost`; for supply or demand that is
    negative or not finite; for wrong shapes; for sums that differ by more than rounding (1e-9 of the sum, 1e-5 in
    float32); and for a row or column that cannot trade since all its routes are forbidden. On an accelerator all
    these checks together cost one synchronisation.
    """

    cost: Float[Tensor, "*batch m n"]
    supply: Float[Tensor, "*batch m"]
    demand: Float[Tensor, "*batch n"]

    def __init__(self, cost, supply, demand):  # each a tensor, an array or a nested list
        cost = as_tensor(cost)
        widened = torch.promote_types(cost.dtype, torch.float32) if cost.is_floating_point() else torch.float64
        cost = cost.to(widened)
        if cost.ndim not in (2, 3):
            raise InputError(f"cost must be (m, n) or (B, m, n), not {tuple(cost.shape)}")
        object.__setattr__(self, "cost", cost)
        row_shape, column_shape = cost.shape[:-1], cost.shape[:-2] + cost.shape[-1:]
        for name, given, shape in (("supply", supply, row_shape), ("demand", demand, column_shape)):
            units = as_tensor(given).to(cost)
            if units.shape not in (shape, shape[-1:]):
                wanted = f"{name} must be {tuple(shape)} for a cost {tuple(cost.shape)}"
                raise InputError(f"{wanted}, not {tuple(units.shape)}")
            object.__setattr__(self, name, units.expand(shape))
        _validate(self)

    @property
    def shape(self) -> torch.Size:
        """(m, n) or (B, m, n)."""
        return self.cost.shape

    @property
    def batched(self) -> bool:
        """Whether there is a batch axis."""
        return self.cost.ndim == 3

    def __len__(self) -> int:
        """Number of problems in a batch."""
        if not self.batched:
            raise TypeError("one problem has no length; a batch has")
        return len(self.cost)

    def __getitem__(self, index: int) -> "TransportProblem":
        """One problem of a batch; iteration follows from it."""
        if not self.batched:
            raise TypeError("one problem cannot be indexed; a batch can")
        return TransportProblem(self.cost[index], self.supply[index], self.demand[index])


def as_tensor(values) -> Tensor:
    """The tensor itself, detached, or a CPU tensor with a copy of an array or nested list."""
    return values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))


def _validate(problem: TransportProblem) -> None:
    """Raise InputError for the first fault; one value goes to the host when there is none."""
    cost, supply, demand = problem.cost, problem.supply, problem.demand
    is_open = cost.isfinite()
    bad = {
        "cost": ~(is_open | (cost == torch.inf)),
        "supply": ~(supply.isfinite() & (supply >= 0)),
        "demand": ~(demand.isfinite() & (demand >= 0)),
    }
    offered, wanted = supply.double().sum(-1), demand.double().sum(-1)
    rounding = 1e-5 if cost.dtype == torch.float32 else 1e-9
    uneven = (offered - wanted).abs() > rounding * torch.maximum(offered, wanted)
    is_open = is_open & (supply > 0).unsqueeze(-1) & (demand > 0).unsqueeze(-2)
    stuck = {"row": (supply > 0) & ~is_open.any(-1), "column": (demand > 0) & ~is_open.any(-2)}
    faults = [fault.any() for fault in (*bad.values(), uneven, *stuck.values())]
    if not torch.stack(faults).any().item():
        return

    for name, fault in bad.items():
        if fault.any():
            at = _first(fault)
            allowed = "finite numbers or +inf" if name == "cost" else "finite numbers >= 0"
            raise InputError(f"{name}{list(at)} is {getattr(problem, name)[at].item():g}; {name} takes {allowed}")
    if uneven.any():
        at = _first(uneven)
        sums = f"supply sums to {offered[at].item():.12g} but demand is {wanted[at].item():.12g}"
        where = f" in problem {at[0]}" if at else ""
        raise InputError(f"{sums}{where}; the sums must be equal, e.g. by a background row that takes what is left")
    for name, fault in stuck.items():
        if fault.any():
            at = _first(fault)
            where = f" of problem {at[0]}" if problem.batched else ""
            does, units = ("offers", supply) if name == "row" else ("wants", demand)
            raise InputError(f"{name} {at[-1]}{where} {does} {units[at].item():g}, but all its routes are forbidden")


def _first(fault: Bool[Tensor, "*shape"]) -> tuple[int, ...]:
    return tuple(fault.nonzero()[0].tolist())


def require_whole(problem: TransportProblem) -> None:
    """Raise InputError unless all units are whole and the sums exactly equal, as solvers by assignment need."""
    for name in ("supply", "demand"):
        units = getattr(problem, name)
        broken = units != units.round()
        if broken.any():
            at = _first(broken)
            raise InputError(
                f"whole units are needed, but {name}{list(at)} is {units[at].item():g}; use emd or linprog"
            )
    offered, wanted = problem.supply.double().sum(-1), problem.demand.double().sum(-1)
    if (offered != wanted).any():
        at = _first(offered != wanted)
        sums = f"supply sums to {offered[at].item():.0f} and demand to {wanted[at].item():.0f}"
        raise InputError(f"equal sums are needed, but {sums}{f' in problem {at[0]}' if at else ''}")
