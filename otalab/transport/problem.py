"""A transport problem: how much each row offers, how much each column wants, and what each route costs."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from otalab.errors import InputError

MOST_ENTRIES = 2**31  # limit for a table with one row or column per unit: 16 GiB in float64
INFEASIBLE = "no plan avoids the forbidden routes (cost +inf): some rows offer more than their open columns want"


@dataclass(frozen=True, eq=False, init=False)
class TransportProblem:
    """Minimise `sum_ij cost_ij plan_ij` over `plan >= 0` with row sums `supply` and column sums `demand`.

    This is Eq. 1 of OTA (Sec. 3.1). Rows are suppliers, columns demanders. One problem, or a batch of equal shape:

        cost    (m, n) or (B, m, n)   cost of one unit; may be negative; +inf forbids the route
        supply  (m,)   or (B, m)      units each row must ship, >= 0
        demand  (n,)   or (B, n)      units each column must get, >= 0

    The inputs may be tensors, NumPy arrays or nested lists. The fields are detached tensors, and `cost` is contiguous.
    All three have the device and dtype of `cost`: a tensor keeps its own, and any other cost becomes a CPU tensor. An
    array's memory order, byte order, strides and write protection do not matter. Half precision and less is widened to
    float32, because float16 cannot represent a background's supply of 22,301. Integers, and numbers wider than
    float64, become float64.

    With a batched cost, all problems share a supply of shape (m,) or a demand of shape (n,). A row or column of zero
    units takes no part, so it can serve as padding. m = 0, n = 0 and B = 0 are valid problems that ship nothing.

    Raises InputError, with the first index at fault, for NaN or -inf in `cost`; for supply or demand that is
    negative or not finite; for wrong shapes; for anything but real numbers (masked entries, text, complex numbers);
    for sums that differ by more than rounding (1e-9 of the sum, 1e-5 in float32); for costs and units so large that
    the objective of a plan could overflow; and for a row or column that cannot trade because all its routes are
    forbidden. On an accelerator all these checks together cost one synchronisation.
    """

    cost: Float[Tensor, "*batch m n"]
    supply: Float[Tensor, "*batch m"]
    demand: Float[Tensor, "*batch n"]
    largest: float = field(init=False, repr=False)  # largest finite |cost|; 0 if no cost is finite

    def __init__(self, cost, supply, demand):  # each a tensor, an array or a nested list
        cost = as_tensor(cost, "cost")
        narrow = cost.is_floating_point() and cost.dtype.itemsize < 8
        cost = cost.to(torch.float32 if narrow else torch.float64).contiguous()
        if cost.ndim not in (2, 3):
            raise InputError(f"cost must be (m, n) or (B, m, n), not {tuple(cost.shape)}")
        object.__setattr__(self, "cost", cost)
        row_shape, column_shape = cost.shape[:-1], cost.shape[:-2] + cost.shape[-1:]
        for name, given, shape in (("supply", supply, row_shape), ("demand", demand, column_shape)):
            units = as_tensor(given, name).to(cost)
            if units.shape not in (shape, shape[-1:]):
                wanted = f"{name} must be {tuple(shape)} for a cost {tuple(cost.shape)}"
                raise InputError(f"{wanted}, not {tuple(units.shape)}")
            object.__setattr__(self, name, units.expand(shape))
        object.__setattr__(self, "largest", _validate(self))

    @property
    def shape(self) -> torch.Size:
        """(m, n) or (B, m, n)."""
        return self.cost.shape

    @property
    def batched(self) -> bool:
        """Whether the problem has a batch axis."""
        return self.cost.ndim == 3

    def as_batch(self) -> tuple[Float[Tensor, "B m n"], Float[Tensor, "B m"], Float[Tensor, "B n"]]:
        """Cost, supply and demand with a batch axis; a single problem becomes a batch of one."""
        parts = self.cost, self.supply, self.demand
        return parts if self.batched else tuple(part[None] for part in parts)

    def __len__(self) -> int:
        """Number of problems in a batch."""
        if not self.batched:
            raise TypeError("one problem has no length; a batch has")
        return len(self.cost)

    def __getitem__(self, index: int) -> "TransportProblem":
        """One problem of a batch. Iteration over a batch uses this."""
        if not self.batched:
            raise TypeError("one problem cannot be indexed; a batch can")
        return TransportProblem(self.cost[index], self.supply[index], self.demand[index])


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative difference that counts as rounding between two sums of numbers of this dtype."""
    return 1e-5 if dtype == torch.float32 else 1e-9


def as_tensor(values, name: str) -> Tensor:
    """Detach a tensor, or copy an array or nested list into a CPU tensor.

    Raises InputError, with `name`, for masked entries, and for values that are neither real numbers nor booleans.
    """
    if isinstance(values, Tensor):
        if values.is_complex() or values.is_quantized or values.layout != torch.strided:
            raise InputError(f"{name} must be a dense tensor of real numbers, not {values.dtype}, {values.layout}")
        return values.detach()
    if np.ma.is_masked(values):
        raise InputError(f"{name} has {np.ma.count_masked(values)} masked entries; fill them, e.g. with inf in cost")
    try:
        array = np.array(values)
        if array.dtype.kind not in "biufO":
            raise TypeError(f"not {array.dtype}")
        exact = array.dtype.kind == "f" and array.dtype.itemsize <= 8  # others become float64: fractions, long doubles
        with np.errstate(over="ignore"):
            native = array.astype(array.dtype.newbyteorder("=") if exact else np.float64, order="C")
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"{name} must hold real numbers in rows of equal lengths: {error}") from error
    if not exact and (np.isinf(native) & (array.astype(object) != native.astype(object))).any():
        raise InputError(f"{name} holds {array[np.isinf(native)][0]!s}, which float64 cannot")
    return torch.from_numpy(native)


def _validate(problem: TransportProblem) -> float:
    """Check the problem and return its largest finite |cost|, the only value that goes to the host.

    Raises InputError for the first fault.
    """
    cost, supply, demand = problem.cost, problem.supply, problem.demand
    bad = bad_entries(cost, supply, demand)
    offered, wanted = supply.double().sum(-1), demand.double().sum(-1)
    uneven = (offered - wanted).abs() > tolerance(cost.dtype) * torch.maximum(offered, wanted)
    is_open = cost.isfinite() & (supply > 0).unsqueeze(-1) & (demand > 0).unsqueeze(-2)
    stuck = {"row": (supply > 0) & ~is_open.any(-1), "column": (demand > 0) & ~is_open.any(-2)}
    units = torch.maximum(offered, wanted) + sum(cost.shape[-2:])  # a sum of prices counts each row and column once
    largest = largest_cost(cost)
    overflow = torch.finfo(cost.dtype).max / 2**10 < units * largest
    faults = [fault.any() for fault in (*bad.values(), uneven, *stuck.values(), overflow)]
    found = largest_of(largest.flatten()).masked_fill(torch.stack(faults).any(), torch.nan).item()
    if not math.isnan(found):
        return found

    refuse_entries(cost, supply, demand)
    if uneven.any():
        at = first_index(uneven)
        sums = f"supply sums to {offered[at].item():.12g} but demand is {wanted[at].item():.12g}"
        where = f" in problem {at[0]}" if at else ""
        raise InputError(f"{sums}{where}; the sums must be equal, e.g. by a background row that takes what is left")
    for name, fault in stuck.items():
        if fault.any():
            at = first_index(fault)
            where = f" of problem {at[0]}" if problem.batched else ""
            does, units = ("offers", supply) if name == "row" else ("wants", demand)
            raise InputError(f"{name} {at[-1]}{where} {does} {units[at].item():g}, but all its routes are forbidden")
    at = first_index(overflow)
    most, goods = largest[at].item(), torch.maximum(offered, wanted)[at].item()
    kind = str(cost.dtype).removeprefix("torch.")
    raise InputError(
        f"costs up to {most:g} on {goods:g} units may overflow {kind}; divide the costs, or forbid routes with +inf"
    )


def bad_entries(cost: Tensor, supply: Tensor, demand: Tensor) -> dict[str, Tensor]:
    """Masks of where the cost is NaN or -inf, and where supply and demand are negative or not finite."""
    goods = {"supply": supply, "demand": demand}
    return {"cost": ~(cost > -torch.inf)} | {name: ~((x >= 0) & (x < torch.inf)) for name, x in goods.items()}


def refuse_entries(cost: Tensor, supply: Tensor, demand: Tensor) -> None:
    """Raise InputError for the first of the `bad_entries`. If there is none, three values go to the host."""
    parts = {"cost": cost, "supply": supply, "demand": demand}
    for name, fault in bad_entries(**parts).items():
        if fault.any():
            at = first_index(fault)
            allowed = "finite numbers or +inf" if name == "cost" else "finite numbers >= 0"
            raise InputError(f"{name}{list(at)} is {parts[name][at].item():g}; {name} takes {allowed}")


def largest_cost(cost: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch"]:
    """The largest finite |cost| of each problem, in float64; 0 if no cost is finite."""
    return largest_of(cost.abs().masked_fill(~cost.isfinite(), 0.0).flatten(-2)).double()


def largest_of(values: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    """The largest of k values that are not negative; 0 if k is 0."""
    return values.amax(-1) if values.shape[-1] else values.sum(-1)


def first_index(fault: Bool[Tensor, "*shape"]) -> tuple[int, ...]:
    """Where a mask that is not all False is first True."""
    return tuple(fault.nonzero()[0].tolist())


def check_copies(rows, columns) -> None:
    """Raise InputError if a table with one row or column per unit would have more than MOST_ENTRIES entries."""
    if columns and rows > MOST_ENTRIES / columns:
        table = f"{rows:.6g} rows and {columns:.6g} columns of one unit"
        raise InputError(f"a table of {table} is too large; use emd or linprog")


def require_whole(problem: TransportProblem) -> None:
    """Raise InputError unless all units are whole and the sums exactly equal, as assignment solvers require."""
    for name in ("supply", "demand"):
        units = getattr(problem, name)
        broken = units != units.round()
        if broken.any():
            at = first_index(broken)
            raise InputError(
                f"whole units are needed, but {name}{list(at)} is {units[at].item():g}; use emd or linprog"
            )
    offered, wanted = problem.supply.double().sum(-1), problem.demand.double().sum(-1)
    if (offered != wanted).any():
        at = first_index(offered != wanted)
        sums = f"supply sums to {offered[at].item():.0f} and demand to {wanted[at].item():.0f}"
        raise InputError(f"equal sums are needed, but {sums}{f' in problem {at[0]}' if at else ''}")
