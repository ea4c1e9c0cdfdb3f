"""Random samples that are the same everywhere: SHA-256 decides, not a library's generator, which may change."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def by_lot(items: Iterable[T], seed: int) -> list[T]:
    """The items in a random order that is the same on every machine.

    They are sorted by the SHA-256 of the seed and the item's text. Which of two items comes first therefore does not
    depend on the other items, or on the order in which they are given.
    """
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed} {item}".encode(errors="replace")).digest())


def stratified(holders: Mapping[object, Collection[int]], most: int | None, seed: int) -> list[int]:
    """Draw at most `most` ids (None: all), sorted, so that every category has its share.

    holders: the ids of the images that show each category

    The categories take turns, the rarest first. In its turn a category takes the first of its ids, in the order of
    `by_lot`, that no category has taken yet. All categories therefore draw equally many ids until their own run out,
    and a smaller sample is part of a larger one with the same seed. An id without a category is never drawn.
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
