"""Checkpoints: `model.safetensors` to use a model, `checkpoint.pt` to resume training. Each is written whole.

`model.safetensors` holds the evaluated weights. Its header holds all that is needed to rebuild the model, and a
checksum that reveals damage: a flipped bit changes a weight but causes no error by itself.
`checkpoint.pt` holds the state of a run after a step. It is loaded with `weights_only=True`, so it cannot run code.
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

EVAL_BATCH = 16  # images per batch if nothing else is specified
MOST_SIDES = (MOST_SIDE, 10 * MOST_SIDE)  # of an image_size: shorter and longest side in px, as `train` accepts them
STATE = {"config", "steps_done", "model", "average", "optimizer", "scaler"}  # the keys of a run's state


def save_model(
    path: Path,
    model: Detector,
    settings: dict,
    class_names: list[str],
    category_ids: list[int],
    batch_size: int = EVAL_BATCH,
) -> None:
    """Write the weights and the description of a detector; `settings` are the arguments of `build_detector`.

    batch_size: images per step in training, and the default number of images per batch in evaluation
    """
    description = {"settings": settings, "class_names": class_names, "category_ids": category_ids}
    description["batch_size"] = batch_size
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    description["sha256"] = content_sum(description, tensors)
    with write_whole(path) as temporary:  # one metadata entry: the order of several would vary
        temporary.write_bytes(save(tensors, metadata={"otalab": json.dumps(description)}))


def load_model(path: str | Path, device: str | torch.device = "cpu") -> tuple[Detector, dict]:
    """Load a detector, in evaluation mode, and its description from a `model.safetensors` or from a run's folder.

    "torchvision-coco" and .pth files are read by `load_foreign`.

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
        description.setdefault("batch_size", EVAL_BATCH)  # older files have neither sha256 nor batch_size
        check_description(description, len(tensors))
        with torch.device("meta"):  # uses no memory, whatever sizes the settings ask for
            frame = build_detector(**description["settings"], load_weights=False)
        check_tensors(tensors, frame.state_dict())  # so that only a lack of memory can fail below
        if not len(description["class_names"]) == len(description["category_ids"]) == frame.num_classes:
            raise InputError(f"{frame.num_classes} classes, but other numbers of names and ids")
    except Exception as error:  # a file of another program can hold anything
        raise InputError(f"{path} is not a whole otalab checkpoint ({first_line(error)})") from error
    model = build_detector(**description["settings"], load_weights=False)
    model.load_state_dict(tensors)
    return place(model, torch.device(device)).eval(), description


def content_sum(description: dict, tensors: dict[str, torch.Tensor]) -> str:
    """The SHA-256 of a description and of the names, dtypes, shapes and bytes of tensors."""
    found = hashlib.sha256(json.dumps(description).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def check_description(description: dict, num_tensors: int) -> None:
    """Raise InputError for values that `build_detector` does not reject, but that would make it hang or fail later."""
    settings, names, ids = (description[key] for key in ("settings", "class_names", "category_ids"))
    size = settings.get("image_size")
    fits = {
        "num_convs": is_count(settings.get("num_convs") or 1, num_tensors),  # each has at least one tensor
        "image_size": size is None
        or (isinstance(size, list) and len(size) == 2 and all(map(is_count, size, MOST_SIDES))),
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


def check_tensors(tensors: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Raise InputError unless the tensors are finite and have the names, shapes and dtypes of those wanted."""
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
    content = io.BytesIO()  # torch.save to a file does not distinguish a full disk from other errors
    torch.save(state, content)
    with write_whole(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_state(path: Path) -> dict:
    """Load the state of a run that `save_state` wrote. Raises InputError if the file is damaged or not such a state."""
    try:
        with zipfile.ZipFile(path) as file:  # as torch.save writes; torch.load reads others with older, laxer code
            if any(part.compress_type != zipfile.ZIP_STORED for part in file.infolist()):
                raise InputError("its parts are compressed")  # torch.save never does it; they could expand to any size
            if damaged := file.testzip():  # torch.load does not verify the checksums
                raise InputError(f"{damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage can make the reader raise anything
        raise InputError(f"{path} is not a whole checkpoint ({first_line(error)})") from error
    if isinstance(state, dict) and "epoch" in state:
        raise InputError(f"{path} is of an earlier otalab, whose runs cannot be resumed; model.safetensors can be used")
    if not isinstance(state, dict) or not state.keys() >= STATE:
        raise InputError(f"{path} is not a checkpoint of a run")
    if not isinstance(state["config"], dict) or not is_count(state["steps_done"]):
        raise InputError(f"{path} is not a checkpoint of a run: its steps_done is {quoted(state['steps_done'])}")
    return state


def check_moments(kept: dict, parameters: list[torch.nn.Parameter]) -> None:
    """Raise InputError unless `kept` can be an optimizer's state of these parameters, in this order, after a step."""
    if kept.keys() != set(range(len(parameters))):
        raise InputError(f"the optimizer has the state of {len(kept)} parameters, not of {len(parameters)}")
    names = set().union(*kept.values())  # of the tensors kept for each parameter
    for index, parameter in enumerate(parameters):
        check_tensors(kept[index], {name: parameter.new_empty(()) if name == "step" else parameter for name in names})
