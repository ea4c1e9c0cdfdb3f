"""Checkpoints: `model.safetensors` to use a model, `checkpoint.pt` to go on training. Each is written whole.

`model.safetensors` holds the evaluated weights and, in its header, all that is needed to build the model again, and a
sum by which damage is told: a flipped bit gives other weights, but never an error by itself.
`checkpoint.pt` holds the state of a run after a step, and is loaded with `weights_only=True`: it runs no code.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from otalab.detect.config import MOST_BATCH, MOST_SIDE, is_foreign
from otalab.detect.detector import Detector, build_detector
from otalab.detect.foreign import load_foreign
from otalab.detect.layout import place
from otalab.errors import InputError, first_line, quoted
from otalab.files import write_whole

EVAL_BATCH = 16  # images at a time where nothing else is known
STATE = {"config", "steps_done", "model", "average", "optimizer", "scaler"}  # what the state of a run consists of


def save_model(
    path: Path,
    model: Detector,
    settings: dict,
    class_names: list[str],
    category_ids: list[int],
    batch_size: int = EVAL_BATCH,
) -> None:
    """Write weights and description of a detector; `settings` are the arguments of `build_detector`.

    batch_size: images a step in training, and at a time in evaluation unless told otherwise
    """
    description = {"settings": settings, "class_names": class_names, "category_ids": category_ids}
    description["batch_size"] = batch_size
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    description["sha256"] = content_sum(description, tensors)
    with write_whole(path) as temporary:  # one entry of metadata: safetensors writes several in any order
        temporary.write_bytes(save(tensors, metadata={"otalab": json.dumps(description)}))


def load_model(path: str | Path, device: str | torch.device = "cpu") -> tuple[Detector, dict]:
    """The detector in a `model.safetensors` (or in the folder of a run), in evaluation mode, and its description.

    "torchvision-coco" and .pth files are read as `load_foreign` does.

    The description is a dict of "settings", "class_names" (label to name), "category_ids" (label to COCO id) and
    "batch_size" (of training). Raises InputError when the file is missing, damaged or not otalab's.
    """
    if is_foreign(path):
        model, description = load_foreign(path)
        return place(model, torch.device(device)).eval(), description
    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads(file.metadata()["otalab"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if "sha256" in description and description.pop("sha256") != content_sum(description, tensors):
            raise InputError("its content is not what was written")
        description.setdefault("batch_size", EVAL_BATCH)  # earlier files have neither
        check_description(description, len(tensors))
        with torch.device("meta"):  # costs no memory, whatever sizes the settings ask for
            frame = build_detector(**description["settings"], load_weights=False)
        check_tensors(tensors, frame.state_dict())  # so that nothing can fail below, for want of memory apart
        if not len(description["class_names"]) == len(description["category_ids"]) == frame.num_classes:
            raise InputError(f"{frame.num_classes} classes, but other numbers of names and ids")
    except Exception as error:  # a file of another program can hold anything
        raise InputError(f"{path} is not a whole otalab checkpoint ({first_line(error)})") from error
    model = build_detector(**description["settings"], load_weights=False)
    model.load_state_dict(tensors)
    return place(model, torch.device(device)).eval(), description


def content_sum(description: dict, tensors: dict[str, torch.Tensor]) -> str:
    """The SHA-256 of a description and of tensors: their names, dtypes, shapes and bytes."""
    found = hashlib.sha256(json.dumps(description).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def check_description(description: dict, num_tensors: int) -> None:
    """Raise InputError for a part of a detector's description that would pass when it is built, and fail or hang."""
    settings, names, ids = (description[key] for key in ("settings", "class_names", "category_ids"))
    size = settings.get("image_size")
    fits = {
        "num_convs": is_count(settings.get("num_convs") or 1, num_tensors),  # each makes a tensor or more
        "image_size": size is None or is_size(size),
        "batch_size": is_count(description["batch_size"], MOST_BATCH),
        "class_names": isinstance(names, list) and all(isinstance(name, str) for name in names),
        "category_ids": isinstance(ids, list) and all(type(number) is int for number in ids),
    }
    for key, right in fits.items():
        if not right:
            raise InputError(f"its {key} is {quoted(settings.get(key, description.get(key)))}")


def is_count(value: object, most: int = 2**31) -> bool:
    """Whether a value is a whole number in 1..most."""
    return type(value) is int and 1 <= value <= most


def is_size(value: object) -> bool:
    """Whether a value is a detector's image size: the shorter side and the longest, px, as `train` takes them."""
    whole = isinstance(value, list) and len(value) == 2 and all(is_count(side, 10 * MOST_SIDE) for side in value)
    return whole and value[0] <= min(value[1], MOST_SIDE)


def check_tensors(tensors: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Raise InputError unless the tensors have the names, shapes and dtypes of those wanted, and are finite."""
    odd = sorted(map(str, tensors.keys() ^ wanted.keys()))
    if odd:
        raise InputError(f"{'no' if odd[0] in wanted else 'unknown'} tensor {odd[0]}")
    for name, like in wanted.items():
        found = tensors[name]
        if not isinstance(found, torch.Tensor):
            raise InputError(f"{name} is no tensor")
        if (found.shape, found.dtype) != (like.shape, like.dtype):
            raise InputError(f"{name} is {found.dtype} {tuple(found.shape)}, not {like.dtype} {tuple(like.shape)}")
        if not found.isfinite().all():
            raise InputError(f"{name} holds numbers that are not finite")


def save_state(path: Path, state: dict) -> None:
    """Write the state of a run."""
    content = io.BytesIO()  # torch.save's own file does not tell a full disk from other faults
    torch.save(state, content)
    with write_whole(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_state(path: Path) -> dict:
    """The state of a run, as `save_state` wrote it. Raises InputError when the file is damaged or another's."""
    try:
        with zipfile.ZipFile(path) as file:  # what torch.save writes; for others torch.load has an older, laxer reader
            if any(part.compress_type != zipfile.ZIP_STORED for part in file.infolist()):
                raise InputError("its parts are compressed")  # which torch.save never does; they could grow to any size
            if damaged := file.testzip():  # torch.load does not look at the sums
                raise InputError(f"{damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises whatever the damage leads it to
        raise InputError(f"{path} is not a whole checkpoint ({first_line(error)})") from error
    if isinstance(state, dict) and "epoch" in state:
        raise InputError(f"{path} is of an earlier otalab, whose runs cannot be resumed; model.safetensors can be used")
    if not isinstance(state, dict) or not state.keys() >= STATE:
        raise InputError(f"{path} is not a checkpoint of a run")
    if not isinstance(state["config"], dict) or not is_count(state["steps_done"]):
        raise InputError(f"{path} is not a checkpoint of a run: its steps_done is {quoted(state['steps_done'])}")
    return state


def restore(
    path: Path,
    state: dict,
    model: Detector,
    average: Detector,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Bring what `save_state` was given back to where it came from; `path` is for messages.

    The optimizer's settings stay its own: they follow from the run's. Raises InputError when the state is that of
    another detector or optimizer, or not finite.
    """
    try:
        for name, part in (("model", model), ("average", average)):
            check_tensors(state[name], part.state_dict())
            part.load_state_dict(state[name])
        kept = state["optimizer"]["state"]
        check_moments(kept, [parameter for group in optimizer.param_groups for parameter in group["params"]])
        optimizer.load_state_dict(optimizer.state_dict() | {"state": kept})
        if scaler.is_enabled():
            scaler.load_state_dict(state["scaler"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} does not fit the detector: {first_line(error)}") from error


def check_moments(kept: dict, parameters: list[torch.nn.Parameter]) -> None:
    """Raise InputError unless an optimizer can have kept this of these parameters, in their order, after a step."""
    if kept.keys() != set(range(len(parameters))):
        raise InputError(f"the optimizer has the state of {len(kept)} parameters, not of {len(parameters)}")
    names = set().union(*kept.values())  # of the tensors that it keeps for each parameter
    for index, parameter in enumerate(parameters):
        check_tensors(kept[index], {name: parameter.new_empty(()) if name == "step" else parameter for name in names})
