"""An FCOS-style detector that learns with any assigner: model, losses, training, evaluation."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otalab.detect.detector import Detector, build_detector

__all__ = ["Detector", "build_detector"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'otalab.detect' has no attribute {name!r}")
    from otalab.detect import detector  # imported late: `otalab.detect.config` needs no torch

    return getattr(detector, name)
