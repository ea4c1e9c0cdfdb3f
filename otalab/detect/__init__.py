"""An FCOS-style detector that learns with any assigner: model, losses, training, evaluation."""

from otalab.detect.detector import Detector, build_detector

__all__ = ["Detector", "build_detector"]
