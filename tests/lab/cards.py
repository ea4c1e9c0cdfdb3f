"""Cards made up for tests: an AP for each data set, method and seed."""

from collections.abc import Mapping, Sequence

from otalab.lab.card import Card
from otalab.lab.gt_bins import CROWDING, SIZES


def card(data: str, method: str, seed: int, ap: float) -> Card:
    """A card whose every AP is `ap`."""

    def bins(names: Sequence[str]) -> dict[str, dict]:
        return {name: {"gts": 5, "recall": ap, "AP": ap, "AP50": ap} for name in names}

    epoch = {"loss": 1.0, "positives per gt": 5.0, "gts left empty": 0.1}
    return Card(
        data,
        method,
        seed,
        settings={"epochs": 2},
        source=None,
        scenes={"train": {"images": 4, "boxes": 8}, "val": {"images": 2, "boxes": 5}},
        metrics=dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl"), ap),
        crowding=bins(CROWDING),
        size=bins(SIZES),
        epochs=[epoch | {"labels changed": None}, epoch | {"labels changed": 0.3}],
        seconds={"data": 0.1, "forward": 1.0, "assignment": 0.2, "backward": 2.0},
        versions={"otalab": "0"},
    )


def cards(aps: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Card]:
    """Cards of `aps`: by data set and method the AP of each seed, from 0."""
    return [
        card(data, method, seed, ap)
        for data, methods in aps.items()
        for method, each in methods.items()
        for seed, ap in enumerate(each)
    ]
