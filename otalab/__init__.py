"""otalab: optimal-transport label assignment for object detection.

`otalab.transport` solves transport problems and proves the answers, `otalab.assign` turns predictions and ground truth
into labels, `otalab.detect` trains a detector with them. See README.md.

>>> from otalab import TransportProblem, solve
>>> solution = solve(TransportProblem(cost=[[1.0, 4.0], [2.0, 3.0]], supply=[1, 1], demand=[1, 1]), method="emd")
>>> solution.objective.item(), bool(solution.certificate.is_optimal())
(4.0, True)
"""

from importlib import import_module

__version__ = "0.1.0"

HOMES = {  # public name -> its module, imported on first use, so that `otalab --help` does not import torch
    "METHODS": "otalab.transport",
    "TransportProblem": "otalab.transport",
    "TransportSolution": "otalab.transport",
    "certify": "otalab.transport",
    "compare": "otalab.transport",
    "solve": "otalab.transport",
    "ASSIGNERS": "otalab.assign",
    "AnchorPoints": "otalab.assign",
    "Assignment": "otalab.assign",
    "Predictions": "otalab.assign",
    "Targets": "otalab.assign",
    "build_assigner": "otalab.assign",
    "CocoDataset": "otalab.data",
    "make_shapes": "otalab.data",
    "Detector": "otalab.detect.detector",
    "TrainConfig": "otalab.detect.config",
    "build_detector": "otalab.detect.detector",
    "evaluate": "otalab.detect.evaluate",
    "load_model": "otalab.detect.checkpoint",
    "train": "otalab.detect.train",
    "InputError": "otalab.errors",
}
__all__ = ["__version__", *HOMES]


def __getattr__(name: str):
    if name not in HOMES:
        raise AttributeError(f"module 'otalab' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES})
