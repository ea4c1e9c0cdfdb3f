"""Weights from elsewhere: torchvision's FCOS and the OTA authors' detector, loaded as detectors of otalab.

Both are FCOS-ResNet-50. A `Layout` says what each tensor is called there; `otalab.detect.style` has the other
differences. Files are read with `weights_only=True`: a pickle that would run code is refused before any of it runs.
"""

import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models.detection import FCOS_ResNet50_FPN_Weights

from otalab.detect.config import TORCHVISION_COCO
from otalab.detect.detector import STD, Detector, build_detector
from otalab.errors import InputError, first_line

COCO_NAMES = FCOS_ResNet50_FPN_Weights.COCO_V1.meta["categories"]  # by COCO's id, 0..90; some ids are unused
COCO_IDS = [i for i, name in enumerate(COCO_NAMES) if name not in ("__background__", "N/A")]


@dataclass(frozen=True)
class Layout:
    """The names that a family of detectors gives to our tensors, and where its class layer has COCO's 80 classes.

    sign:    a tensor whose presence identifies the family
    names:   parts of our names and their replacements, all of which are applied in this order
    classes: number of rows of the class layer
    rows:    the rows of COCO's classes, in the order of COCO's ids
    scales:  names of the scales of the levels; a family without any has scales of 1
    """

    sign: str
    names: dict[str, str]
    classes: int
    rows: list[int]
    scales: tuple[str, ...] = ()

    def name(self, ours: str) -> str:
        """The family's name for a tensor that we call `ours`."""
        for here, there in self.names.items():
            ours = ours.replace(here, there)
        return ours


TORCHVISION = Layout(
    sign="head.classification_head.cls_logits.weight",
    names={  # backbone and FPN have our names
        "head.class_tower.": "head.classification_head.conv.",
        "head.logits.": "head.classification_head.cls_logits.",
        "head.box_tower.": "head.regression_head.conv.",
        "head.sides.": "head.regression_head.bbox_reg.",
        "head.quality.": "head.regression_head.bbox_ctrness.",  # centre-ness
    },
    classes=len(COCO_NAMES),
    rows=COCO_IDS,
)
CVPODS = Layout(
    sign="head.cls_score.weight",
    names={
        "backbone.body.conv1.": "backbone.bottom_up.stem.conv1.",
        "backbone.body.bn1.": "backbone.bottom_up.stem.conv1.norm.",
        **{f"backbone.body.layer{i}.": f"backbone.bottom_up.res{i + 1}." for i in (1, 2, 3, 4)},
        **{f".bn{i}.": f".conv{i}.norm." for i in (1, 2, 3)},
        ".downsample.0.": ".shortcut.",
        ".downsample.1.": ".shortcut.norm.",
        **{f"fpn.inner_blocks.{i}.0.": f"fpn_lateral{i + 3}." for i in (0, 1, 2)},
        **{f"fpn.layer_blocks.{i}.0.": f"fpn_output{i + 3}." for i in (0, 1, 2)},
        "fpn.extra_blocks.": "top_block.",
        "head.class_tower.": "head.cls_subnet.",
        "head.logits.": "head.cls_score.",
        "head.box_tower.": "head.bbox_subnet.",
        "head.sides.": "head.bbox_pred.",
        "head.quality.": "head.ious_pred.",
    },
    classes=len(COCO_IDS),
    rows=list(range(len(COCO_IDS))),
    scales=tuple(f"head.scales.{i}.scale" for i in range(5)),
)
LAYOUTS = {"torchvision": TORCHVISION, "cvpods": CVPODS}


def load_foreign(source: str | Path) -> tuple[Detector, dict]:
    """Load a detector of COCO's 80 classes, and its description, from another project's checkpoint; see `load_model`.

    source: "torchvision-coco" (which torchvision downloads if needed), or a .pth file of either layout

    Raises InputError for a file that is missing, damaged, of neither layout or would run code. Also raises it for
    tensors that are missing, unknown, of another shape or not finite floats; the message names them.
    """
    state = read_state(source)
    family = next((name for name, layout in LAYOUTS.items() if layout.sign in state), None)
    if family is None:
        signs = " nor ".join(f"{layout.sign} ({name})" for name, layout in LAYOUTS.items())
        raise InputError(f"{source} is no detector that otalab knows: it has neither {signs}")
    settings = {
        "backbone": "resnet50",
        "num_classes": len(COCO_IDS),
        "assigner": {"torchvision": "fcos", "cvpods": "ota"}[family],
        "weights_backbone": "IMAGENET1K_V1",  # freezes the norms; nothing is fetched
        "image_size": [800, 1333],
        "style": family,
    }
    model = build_detector(**settings, load_weights=False)
    model.load_state_dict(ours(source, state, model, LAYOUTS[family]))
    names = [COCO_NAMES[i] for i in COCO_IDS]
    return model, {"settings": settings, "class_names": names, "category_ids": list(COCO_IDS), "batch_size": 1}


def read_state(source: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, by their names there. Raises InputError, see `load_foreign`.

    Names of older versions are replaced. The batch counters of norms are dropped, because frozen norms have none.
    """
    try:
        if str(source) == TORCHVISION_COCO:
            weights = FCOS_ResNet50_FPN_Weights.COCO_V1
            state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        else:
            state = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"no checkpoint at {source}") from error
    except pickle.UnpicklingError as error:
        what = "it is damaged, or holds more than tensors"
        raise InputError(f"{source} is refused, and none of it was run: {what}") from error
    except Exception as error:  # no network, a full disk, or anything that damage makes a reader raise
        raise InputError(f"cannot read {source}: {first_line(error)}") from error
    state = state.get("model", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{source} holds no dict of tensors")
    state = {str(name).removeprefix("module."): value for name, value in state.items()}
    # torchvision before 0.14 had no ".0" in the names of FPN layers
    renamed = {re.sub(r"(fpn\.\w+_blocks\.\d+)\.(\w+)$", r"\1.0.\2", name): value for name, value in state.items()}
    renamed = {name.replace("head.centerness.", "head.ious_pred."): value for name, value in renamed.items()}
    return {name: value for name, value in renamed.items() if not name.endswith(".num_batches_tracked")}


def ours(source: str | Path, state: dict[str, Tensor], model: Detector, layout: Layout) -> dict[str, Tensor]:
    """Convert a family's state to a state dict of `model`. Raises InputError, see `load_foreign`."""
    names = {name: layout.name(name) for name in model.state_dict() if name != "head.scales"}
    shapes = {names[name]: value.shape for name, value in model.state_dict().items() if name in names}
    logits = names["head.logits.weight"], names["head.logits.bias"]
    shapes |= {there: torch.Size([layout.classes, *shapes[there][1:]]) for there in logits}
    shapes |= dict.fromkeys(layout.scales, torch.Size([1]))
    faults = [f"no {there}" for there in sorted(shapes.keys() - state.keys())]
    faults += [f"unknown {there}" for there in sorted(state.keys() - shapes.keys())]
    for there in sorted(shapes.keys() & state.keys()):
        value = state[there]
        if value.shape != shapes[there]:
            faults.append(f"{there} is {tuple(value.shape)}, not {tuple(shapes[there])}")
        elif not (value.is_floating_point() and value.isfinite().all()):
            faults.append(f"{there} holds numbers that are not finite floats")
    if faults:
        raise InputError(f"{source} is not the detector that it seems to be: {'; '.join(faults)}")
    state = {there: value.float() for there, value in state.items()}
    state |= {there: state[there][layout.rows] for there in logits}
    found = {name: state[there] for name, there in names.items()}
    scales = [state[there] for there in layout.scales]
    found["head.scales"] = torch.cat(scales) if scales else torch.ones_like(model.head.scales)
    if layout is CVPODS:  # its pixels are (BGR - mean) in 0..255, ours (RGB - the same mean) / std in 0..1
        stem = found["backbone.body.conv1.weight"].flip(1)
        found["backbone.body.conv1.weight"] = stem * (255 * torch.tensor(STD))[:, None, None]
    return found
