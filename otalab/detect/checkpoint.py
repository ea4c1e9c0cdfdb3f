"""Checkpoints: `model.safetensors` to use a model, `checkpoint.pt` to go on training. Each is written whole.

`model.safetensors` holds the evaluated weights and, in its header, all that is needed to build the model again.
`checkpoint.pt` holds the state of a run after an epoch, and is loaded with `weights_only=True`: it runs no code.
"""

import io
import json
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from otalab.detect.detector import Detector, build_detector
from otalab.errors import InputError, first_line
from otalab.files import write_whole

EVAL_BATCH = 16  # images at a time where nothing else is known
STATE = {"config", "epoch", "model", "average", "optimizer"}  # what the state of a run consists of


def save_model(
    path: Path,
    model: Detector,
    settings: dict,
    class_names: list[str],
    category_ids: list[int],
    batch_size: int = EVAL_BATCH,
) -> None:
    """Write weights and description of a detector; `settings` are the arguments of `build_detector`.

    batch_size: images a step in training. Images of a batch are padded to the largest, which the detector gets used to.
    """
    description = {
        "settings": settings,
        "class_names": class_names,
        "category_ids": category_ids,
        "batch_size": batch_size,
    }
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with write_whole(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"otalab": json.dumps(description)}))


def load_model(path: str | Path, device: str | torch.device = "cpu") -> tuple[Detector, dict]:
    """The detector in a `model.safetensors` (or in the folder of a run), in evaluation mode, and its description.

    The description is a dict of "settings", "class_names" (label to name), "category_ids" (label to COCO id) and
    "batch_size" (of training).
    Raises InputError when the file is missing, damaged or not otalab's.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            description = json.loads((file.metadata() or {})["otalab"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        model = build_detector(**description["settings"], load_weights=False).to(device)
        model.load_state_dict(tensors)
        description["batch_size"] = max(1, int(description.get("batch_size", EVAL_BATCH)))  # earlier files have none
        if not len(description["class_names"]) == len(description["category_ids"]) == model.num_classes:
            raise InputError(f"{model.num_classes} classes, but other numbers of names and ids")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is not a whole otalab checkpoint ({first_line(error)})") from error
    return model.eval(), description


def save_state(path: Path, state: dict) -> None:
    """Write the state of a run."""
    content = io.BytesIO()  # torch.save's own file does not tell a full disk from other faults
    torch.save(state, content)
    with write_whole(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_state(path: Path) -> dict:
    """The state of a run, as `save_state` wrote it. Raises InputError when the file is damaged or another's."""
    try:
        with zipfile.ZipFile(path):  # what torch.save writes; for other files torch.load has an older, laxer reader
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises whatever the damage leads it to
        raise InputError(f"{path} is not a whole checkpoint ({first_line(error)})") from error
    if not isinstance(state, dict) or not state.keys() >= STATE:
        raise InputError(f"{path} is not a checkpoint of a run")
    return state
