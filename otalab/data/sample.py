"""Drawing lots that fall alike everywhere: by SHA-256, not by a library's generator, which may change."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def by_lot(items: Iterable[T], seed: int) -> list[T]:
    """The items in an order that the seed and each one's text decide: the same on every machine.

    So an item's rank among others does not depend on which others there are, or on their order.
    """
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed} {item}".encode(errors="replace")).digest())


def stratified(holders: Mapping[object, Collection[int]], most: int | None, seed: int) -> list[int]:
    """At most so many ids (None: all), sorted: a sample in which every category has its share.

    holders: of each category the ids that show it. The categories take turns, the rarest first, and each takes the
    first of its ids by lot that none has taken yet. So a category has as many as any other, as far as it goes, and a
    smaller sample is part of a larger one of the same seed. An id without a category is never drawn.
    """
    order = sorted(holders, key=lambda category: (len(holders[category]), str(category)))
    queues = [iter(by_lot(holders[category], seed)) for category in order]
    chosen = set()
    while queues:
        for queue in list(queues):
            if most is not None and len(chosen) == most:
                return sorted(chosen)
            taken = next((i for i in queue if i not in chosen), None)
            if taken is None:
                queues.remove(queue)
            else:
                chosen.add(taken)
    return sorted(chosen)
