"""Label assignment: which gt each anchor point learns.

assignment = build_assigner("ota")(points, predictions, targets)
assignment.matched_gt  # (n,) gt index, -1 background, -2 ignored
"""

from otalab.assign.algorithm1 import algorithm1
from otalab.assign.atss import ATSS
from otalab.assign.autoassign import AutoAssign
from otalab.assign.base import Assigner
from otalab.assign.cost import Cost, dynamic_k, fixed_k
from otalab.assign.fcos import FCOS
from otalab.assign.foveabox import FoveaBox
from otalab.assign.freeanchor import FreeAnchor
from otalab.assign.hungarian import DetrCost, Hungarian
from otalab.assign.max_iou import MaxIoU
from otalab.assign.noisy_anchors import NoisyAnchors
from otalab.assign.options import RENAMED, parse_options
from otalab.assign.ota import OTA
from otalab.assign.paa import PAA
from otalab.assign.prior import ClosestPrior, RadiusPrior
from otalab.assign.simota import SimOTA
from otalab.assign.sinkhorn_ota import SinkhornOTA
from otalab.assign.tal import TaskAligned
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.assign.uot import UOT
from otalab.errors import InputError, current

ASSIGNERS = {
    "ota": OTA,
    "ota-paper": SinkhornOTA,
    "ota-official": lambda **options: SinkhornOTA(
        **{"prior": RadiusPrior(), "off_prior": 1e6, "prior_k": True, "rescale": True} | options
    ),
    "max-iou": MaxIoU,
    "fcos": FCOS,
    "foveabox": FoveaBox,
    "atss": ATSS,
    "paa": PAA,
    "freeanchor": FreeAnchor,
    "autoassign": AutoAssign,
    "noisy-anchors": NoisyAnchors,
    "hungarian": Hungarian,
    "simota": SimOTA,
    "simota-price": lambda **options: SimOTA(**{"conflicts": "price"} | options),
    "tal": TaskAligned,
    "uot": UOT,
}


def build_assigner(name: str, **options) -> Assigner:
    """Build an assigner by name; `options` are keyword arguments of its class.

    The name may include options, as on the command line: "ota:q=10,solver=auction". `options` override those. Raises
    InputError for an unknown name or option, or for an invalid value.
    """
    name, _, text = name.partition(":")
    if name not in ASSIGNERS:
        raise InputError(f"assigner {name!r} is none of {', '.join(ASSIGNERS)}")
    options = {current(key, RENAMED): value for key, value in options.items()}
    try:
        return ASSIGNERS[name](**parse_options(text, ASSIGNERS[name]()) | options)
    except TypeError as error:
        raise InputError(f"assigner {name!r}: {error}") from error


__all__ = [
    "ASSIGNERS",
    "ATSS",
    "FCOS",
    "OTA",
    "PAA",
    "UOT",
    "AnchorPoints",
    "Assigner",
    "Assignment",
    "AutoAssign",
    "ClosestPrior",
    "Cost",
    "DetrCost",
    "FoveaBox",
    "FreeAnchor",
    "Hungarian",
    "MaxIoU",
    "NoisyAnchors",
    "Predictions",
    "RadiusPrior",
    "SimOTA",
    "SinkhornOTA",
    "Targets",
    "TaskAligned",
    "algorithm1",
    "build_assigner",
    "dynamic_k",
    "fixed_k",
]
