"""Export of a trained detector to a file that runs without otalab: ONNX, or a torch.export program.

The file holds backbone, head and decoding for images of one size, and returns dense boxes and scores. Non-maximum
suppression (NMS) is left to the runtime. The number of boxes that NMS keeps depends on the image, whereas many
runtimes, quantisers and accelerators take only fixed shapes or have their own NMS. docs/use.md has a short one.
"""

import importlib.util
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from otalab.assign import AnchorPoints
from otalab.boxes import around
from otalab.checks import require_known
from otalab.detect.checkpoint import load_model
from otalab.detect.detector import Detector
from otalab.detect.head import Head
from otalab.detect.limits import EVAL_PIXELS
from otalab.detect.postprocess import class_scores
from otalab.errors import InputError
from otalab.files import write_whole

Outputs = tuple[Float[Tensor, "n points 4"], Float[Tensor, "n points C"]]
OUTPUTS = ("boxes", "scores")
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-3  # relative to an output's largest value


class CheckFailed(RuntimeError):
    """Raised when an exported model does not compute what the detector does."""


class DenseDetector(nn.Module):
    """The exported module: images (N, 3, H, W) float32 in 0..1, all of one size, to boxes and scores at every point.

    Boxes (N, points, 4) are xyxy px and may reach beyond the image. Scores (N, points, C) lie in 0..1. Points are
    those of `AnchorPoints.for_image`: ceil(H / s) x ceil(W / s) per level. H and W must be multiples of the style's
    `pad_to`, which is 1 for otalab's own style.
    """

    def __init__(self, model: Detector, size: tuple[int, int]) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head
        self.trains_quality = model.trains_quality
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)
        strides = model.backbone.strides
        points = AnchorPoints.for_image(size, strides, model.style.offset, model.mean.device)
        self.register_buffer("xy", model.style.origins(points, strides, size))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Outputs:
        logits, sides, quality = self.head(self.backbone((images - self.mean) / self.std))
        return around(self.xy, sides), class_scores(logits, quality if self.trains_quality else None)


@dataclass(frozen=True)
class Exported:
    """The shapes of an exported model, and how far its outputs are from the detector's on random images."""

    images: tuple[int, ...]  # shape of the input
    boxes: tuple[int, ...]  # shapes of the outputs
    scores: tuple[int, ...]
    boxes_differ: float  # largest difference, px
    scores_differ: float
    relative: float  # the larger difference, each relative to its output's largest value


def export(
    checkpoint: str | Path, out: Path, format: str = "onnx", size: Sequence[int] | None = None, batch: int = 1
) -> Exported:
    """Write the detector of a checkpoint as a `DenseDetector`, in the format "onnx" (.onnx) or "torch" (.pt2).

    size: height and width of the images, px; None takes a square with the shorter side that the detector resizes to
    batch: number of images that the exported model takes at once

    The file also holds the class names, see `metadata`. Before it is put in place, it is run on random images. If its
    outputs differ from the detector's, it is discarded and CheckFailed is raised. Raises InputError for a missing or
    damaged checkpoint, a detector with its own anchor boxes, an unknown format, a file name without the format's
    ending, an image size that `image_size` refuses, and packages that are not installed.
    """
    out = Path(out)
    require_known(SUFFIXES, format=format)
    if out.suffix != SUFFIXES[format]:
        raise InputError(f"cannot export to {out}: the name of a file of format {format} ends in {SUFFIXES[format]}")
    if format == "onnx":
        require_onnx()
    model, description = load_model(checkpoint)
    if type(model.head) is not Head:
        raise InputError(f"{checkpoint} has anchors {description['settings']['anchors']}, which cannot be exported")
    height, width = image_size(model, size, batch)
    dense = DenseDetector(model, (height, width)).eval().requires_grad_(False)
    dense.to(memory_format=torch.contiguous_format)  # torch.export warns about any other format
    images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    program = torch.export.export(dense, (images,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it holds paths of this machine
    content = onnx_bytes if format == "onnx" else torch_bytes
    run = run_onnx if format == "onnx" else run_torch
    with write_whole(out) as temporary:
        temporary.write_bytes(content(program, metadata(model, description)))
        return compare(run(temporary, images), expected(model, images), images)


def image_size(model: Detector, size: Sequence[int] | None, batch: int) -> tuple[int, int]:
    """Height and width of the images of an exported model.

    Raises InputError if they are missing, too large, or not multiples of the style's `pad_to`.
    """
    if size is None and model.image_size is None:
        raise InputError("the detector takes images of any size; choose that of the exported one: --size HEIGHT WIDTH")
    height, width = size or (model.image_size[0],) * 2
    if (height, width) != model.style.padded((height, width)):
        raise InputError(f"{width} x {height} px: this detector's sides must be multiples of {model.style.pad_to} px")
    if batch * height * width > EVAL_PIXELS:
        raise InputError(
            f"{batch} images of {width} x {height} px are {batch * height * width:,} px, more than the {EVAL_PIXELS:,} "
            "that an exported model may take; try a smaller --size or --batch"
        )
    return height, width


def metadata(model: Detector, description: dict) -> dict[str, str]:
    """What a runtime needs besides the outputs, each value as JSON.

    These are the names and COCO ids of the classes, and for NMS the score_threshold, nms_iou and per_image (boxes) that
    the detector itself uses.
    """
    values = {key: description[key] for key in ("class_names", "category_ids")}
    values |= {key: getattr(model.postprocess, key) for key in ("score_threshold", "nms_iou", "per_image")}
    return {key: json.dumps(value) for key, value in values.items()}


@torch.inference_mode()
def expected(model: Detector, images: Float[Tensor, "n 3 h w"]) -> Outputs:
    """What the detector itself predicts for the images, which need no padding, at all points."""
    _, predictions = model.predict(list(images))
    boxes = torch.stack([one.boxes for one in predictions])
    scores = torch.stack([class_scores(one.logits, one.quality) for one in predictions])
    return boxes, scores


def compare(found: Sequence[Tensor], wanted: Outputs, images: Tensor) -> Exported:
    """Measure how far outputs are from those wanted. Raises CheckFailed for other shapes, and beyond TOLERANCE."""
    shapes = [tuple(x.shape) for x in found]
    if shapes != [tuple(x.shape) for x in wanted]:
        raise CheckFailed(f"the exported model's outputs have shapes {shapes}, not the detector's")
    differ = [(a - b).abs().max().item() for a, b in zip(found, wanted, strict=True)]
    relative = [d / b.abs().max().item() for d, b in zip(differ, wanted, strict=True)]
    if not all(part <= TOLERANCE for part in relative):  # False for NaN
        raise CheckFailed(
            f"the exported model differs from the detector by {differ[0]:.2g} px in boxes and {differ[1]:.2g} in "
            f"scores, more than {TOLERANCE:g} of the largest; nothing was written"
        )
    return Exported(tuple(images.shape), *shapes, *differ, max(relative))


def require_onnx() -> None:
    """Raise InputError unless the packages that write and run ONNX are installed."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} is not installed; format onnx needs the extra 'export'")


def onnx_bytes(program: torch.export.ExportedProgram, metadata: dict[str, str]) -> bytes:
    """The content of an ONNX file with the program, its weights and the metadata."""
    onnx = torch.onnx.export(program, dynamo=True, verbose=False, input_names=["images"], output_names=OUTPUTS)
    onnx.model.metadata_props.update(metadata)
    return onnx.model_proto.SerializeToString()


def run_onnx(path: Path, images: Tensor) -> Outputs:
    """Run an ONNX file with ONNX Runtime on the CPU; returns its outputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    boxes, scores = session.run(OUTPUTS, {"images": images.numpy()})
    return torch.from_numpy(boxes), torch.from_numpy(scores)


def torch_bytes(program: torch.export.ExportedProgram, metadata: dict[str, str]) -> bytes:
    """The content of a .pt2 file with the program, and the metadata as extra files."""
    content = io.BytesIO()  # torch does not distinguish a full disk from other errors when it writes a file
    torch.export.save(program, content, extra_files=metadata)
    return content.getvalue()


@torch.inference_mode()
def run_torch(path: Path, images: Tensor) -> Outputs:
    """Run a .pt2 file; returns its outputs."""
    return torch.export.load(path).module()(images)
