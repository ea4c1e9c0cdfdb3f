"""Which gt a point takes, and which points a gt: by the highest values of a matrix."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def best(value: Float[Tensor, "m n"], allowed: Bool[Tensor, "m n"]) -> Int[Tensor, " n"]:
    """The allowed gt of highest value at each point, the first of equals; -1 where none is allowed."""
    value, owner = value.masked_fill(~allowed, -torch.inf).max(dim=0)
    return owner.masked_fill(~allowed.any(dim=0), -1)


def top_k(value: Float[Tensor, "m n"], k: Int[Tensor, " m"]) -> Bool[Tensor, "m n"]:
    """Mask of the k_i highest values of each row; of equals, the first."""
    order = value.sort(dim=1, descending=True, stable=True).indices
    rank = torch.arange(value.shape[1], device=value.device)
    return torch.zeros_like(value, dtype=torch.bool).scatter(1, order, rank < k[:, None])
