"""Drawing lots that fall alike everywhere: by SHA-256, not by a library's generator, which may change."""

import hashlib
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def by_lot(items: Iterable[T], seed: int, key: Callable[[T], object] = str) -> list[T]:
    """The items in an order that the seed and each one's own key decide: the same on every machine.

    So an item's rank among others does not depend on which others there are, or on their order.
    """
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed} {key(item)}".encode(errors="replace")).digest())
