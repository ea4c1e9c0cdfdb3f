"""What the adapters share: an assigner whose labels, and nothing else, enter the loss of another framework."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from otalab.assign import Assigner, build_assigner
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.errors import InputError

Watch = Callable[[list[Assignment]], object]


class Matching:
    """The labels of a batch, for a loss that needs nothing else.

    assigner: an assigner, or its name, which may include options as in `build_assigner`. `freeanchor` and `autoassign`
              are excluded, because they bring losses of their own in place of labels
    watch:    called with the assignments of each batch, for example to look at their counts, deficits and certificates
    options:  options of the assigner, if it is given by name

    Raises InputError for an unknown name or option, for options beside an assigner that is not given by name, and for
    an assigner that brings losses of its own.
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
        """Assign a batch as `Assigner.assign_batch` does, and show the result to `watch`."""
        assignments = self.assigner.assign_batch(points, predictions, targets)
        if self.watch is not None:
            self.watch(assignments)
        return assignments


def as_logits(probability: Tensor) -> Tensor:
    """The logits of probabilities, in float64, and finite even where a probability was rounded to 0 or 1."""
    return torch.logit(probability.double().clamp(1e-30, 1 - 2**-24))
