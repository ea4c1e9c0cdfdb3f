"""What the adapters share: an assigner whose labels, and nothing else, go into a loss of somebody else's."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from otalab.assign import Assigner, build_assigner
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.errors import InputError

Watch = Callable[[list[Assignment]], object]


class Matching:
    """Labels of a batch, for a loss that needs labels.

    assigner: any but those whose assignments bring losses of their own (`freeanchor`, `autoassign`); or its name, which
              may bring options along as in `build_assigner`
    watch:    called with the assignments of each batch, to see that it works: their counts, deficits, certificates
    options:  of an assigner given by name

    Raises InputError for an unknown name or option, and if the assigner has losses in place of labels.
    """

    def __init__(self, assigner: str | Assigner, watch: Watch | None = None, **options) -> None:
        if isinstance(assigner, str):
            assigner = build_assigner(assigner, **options)
        elif options:
            raise InputError(f"options {', '.join(options)} belong to a name, and an assigner was given")
        if assigner.own_losses:
            raise InputError(f"{type(assigner).__name__} brings losses of its own, and labels alone are asked for")
        self.assigner, self.watch = assigner, watch

    def __call__(
        self, points: AnchorPoints, predictions: Sequence[Predictions], targets: Sequence[Targets]
    ) -> list[Assignment]:
        """`Assigner.assign_batch`."""
        assignments = self.assigner.assign_batch(points, predictions, targets)
        if self.watch is not None:
            self.watch(assignments)
        return assignments


def as_logits(probability: Tensor) -> Tensor:
    """Finite ones, also of a probability that was rounded to 0 or 1."""
    return torch.logit(probability.double().clamp(1e-30, 1 - 2**-24))
