"""What is damaged, and what must still be done with it.

Each subject is made in a folder and gives the name of a file, its whole content, damage to it and a use of the file. A
use returns "right", "skipped" (right but for rows that are counted) or "told" (by verify, as a check that failed),
raises InputError, or else has broken its promise.
"""

import io
import json
import math
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import foreign_subjects
import mutations
import numpy as np
import pytest
import torch
from detect.models import eager_detector, noise
from PIL import Image

from otalab.data import CLASS_NAMES, CocoDataset, ShapesConfig, make_shapes
from otalab.data.images import read_image
from otalab.detect.checkpoint import load_model, load_state, save_model, save_state
from otalab.detect.config import TrainConfig
from otalab.detect.evaluate import coco_metrics
from otalab.detect.layout import place
from otalab.detect.train import train
from otalab.errors import InputError
from otalab.lab.cases import case_of, toy_case
from otalab.lab.verify import verify
from otalab.transport import TransportProblem, solve
from otalab.transport.methods import MENDED

Subject = tuple[str, bytes, Callable[[int], bytes], Callable[[Path], str]]  # damage goes from seed to content


def annotations(folder: Path) -> Subject:
    """COCO's annotation file, with crowd rows; used by a data set, its every item, and the evaluation."""
    make_shapes(folder / "set", 4, 1, ShapesConfig(image_size=64, max_size=40.0), progress=False)
    whole = (folder / "set/train/instances.json").read_bytes()
    content = json.loads(whole)
    for row in content["annotations"][::5]:
        row["iscrowd"] = 1

    def damage(seed: int) -> bytes:
        if seed % 3 == 0:
            return mutations.of_bytes(whole, seed)
        return mutations.of_json(content, seed).encode()

    def use(path: Path) -> str:
        data = CocoDataset(path, folder / "set/train/images")
        boxes = 0
        for image, target in data:
            assert image.shape[1:] == (64, 64) and image.min() >= 0 and image.max() <= 1
            for found in (target["boxes"], target["ignore_boxes"]):
                assert (found >= 0).all() and (found <= 64).all() and (found[:, 2:] > found[:, :2]).all()
            assert ((target["labels"] >= 0) & (target["labels"] < len(data.class_names))).all()
            boxes += len(target["boxes"])
        assert f"{len(data)} images, {boxes} boxes, {len(data.class_names)} classes" in data.summary()
        truth = data.ground_truth()
        json.dumps([data.account(20), truth], allow_nan=False)
        found = [{**row, "score": 0.5} for row in truth["annotations"] if not row["iscrowd"]]
        metrics = coco_metrics(truth, found, "pycocotools")
        assert all(math.isnan(value) or 0 <= value <= 1 for value in metrics.values())
        return "skipped" if len(truth["annotations"]) > boxes + len(content["annotations"][::5]) else "right"

    return "instances.json", whole, damage, use


def picture(folder: Path, ending: str) -> Subject:
    """An image file of 48 x 64 px; a PNG has sums of its own to tell damage by, a JPEG has none."""
    grey = np.add.outer(np.arange(48), np.arange(64))[..., None] * np.array([2, 1, 1])
    pixels = (grey + np.random.default_rng(0).integers(0, 30, (48, 64, 3))).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, {"jpg": "JPEG", "png": "PNG"}[ending])
    whole = stream.getvalue()

    def use(path: Path) -> str:
        found = read_image(path)
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
        assert ending == "jpg" or np.array_equal(found, pixels)
        return "right"

    return f"a.{ending}", whole, lambda seed: mutations.of_bytes(whole, seed), use


def model(folder: Path, summed: bool) -> Subject:
    """The weights of a detector, with or without the sum that tells damage; used on an image."""
    path = folder / "whole.safetensors"
    settings = {"backbone": "tiny", "num_classes": 6, "assigner": "ota", "image_size": [48, 100]}
    detector = place(eager_detector(num_classes=6, image_size=(48, 100)), torch.device("cpu"))  # as it is loaded
    save_model(path, detector, settings, list(CLASS_NAMES), [1, 2, 3, 4, 5, 6])
    whole = path.read_bytes() if summed else without_sum(path.read_bytes())
    images = noise((40, 56))
    right = detector(images)[0]

    def damage(seed: int) -> bytes:
        if seed % 2 == 0 and summed:
            return mutations.of_bytes(whole, seed)
        return mutations.of_safetensors(whole, seed, "otalab")

    def use(path: Path) -> str:
        loaded, description = load_model(path)
        found = loaded(images)[0]
        names = [description["class_names"][label] for label in found["labels"]]
        assert all(isinstance(name, str) for name in names)
        assert all(type(number) is int for number in description["category_ids"])
        assert description["batch_size"] >= 1
        assert all(value.isfinite().all() for value in found.values())
        assert not summed or all(torch.equal(found[key], right[key]) for key in right)
        return "right"

    return "model.safetensors", whole, damage, use


def without_sum(data: bytes) -> bytes:
    """The file as it was before it held a sum of its content."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    description = json.loads(header["__metadata__"]["otalab"])
    del description["sha256"]
    header["__metadata__"]["otalab"] = json.dumps(description)
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + data[8 + size :]


def state(folder: Path) -> Subject:
    """The state of a run after one of two epochs; used by the run that goes on with it to the end."""
    data = make_shapes(folder / "set", 4, 1, ShapesConfig(image_size=64, max_size=40.0), progress=False)
    config = TrainConfig(str(data), str(folder / "run"), epochs=2, batch_size=2, warmup=1, device="cpu")
    train(config, progress=False)
    right = (folder / "run/model.safetensors").read_bytes()
    shutil.rmtree(folder / "run")
    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr("otalab.detect.run_folder.save_state", saved_and_interrupted)
        train(config, progress=False)
    whole = (folder / "run/checkpoint.pt").read_bytes()
    value = load_state(folder / "run/checkpoint.pt")

    def damage(seed: int) -> bytes:
        return mutations.of_bytes(whole, seed) if seed % 2 == 0 else mutations.of_state(value, seed)

    def use(path: Path) -> str:
        metrics = train(replace(config, out=str(path.parent)), resume=True, progress=False)
        assert not math.isnan(metrics["AP"])
        assert (path.parent / "model.safetensors").read_bytes() == right
        return "right"

    return "checkpoint.pt", whole, damage, use


def saved_and_interrupted(*arguments) -> None:
    """Save the state, and stop the run."""
    save_state(*arguments)
    raise KeyboardInterrupt


def problem(folder: Path, ending: str) -> Subject:
    """A transport problem; used by every solver."""
    values = toy_case().problem
    arrays = {key: getattr(values, key).numpy() for key in ("cost", "supply", "demand")}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    content = {key: array.tolist() for key, array in arrays.items()}
    content["cost"][0][5] = None
    whole = stream.getvalue() if ending == "npz" else json.dumps(content).encode()

    def damage(seed: int) -> bytes:
        if seed % 3 == 0:
            return mutations.of_bytes(whole, seed)
        return mutations.of_arrays(arrays, seed) if ending == "npz" else mutations.of_json(content, seed).encode()

    def use(path: Path) -> str:
        case = case_of(str(path))
        verification = verify(case, repeats=1)
        if verification.passed:
            return "right"
        costs = case.problem.cost[case.problem.cost.isfinite()].abs()
        assert costs.max() > 1e8, str(verification)
        # beside such a cost the others may be lost to the peers and to entropic methods, which say so; never to ours
        ours = verify(case, methods=[method for method in MENDED if takes(method, case.problem)], repeats=1)
        assert ours.passed and "augmenting-path" in str(ours), str(ours)
        return "told"

    return f"problem.{ending}", whole, damage, use


def takes(method: str, problem: TransportProblem) -> bool:
    """Whether a method does not refuse the problem."""
    try:
        solve(problem, method)
    except InputError:
        return False
    return True


SUBJECTS = {
    "coco": annotations,
    "jpeg": lambda folder: picture(folder, "jpg"),
    "png": lambda folder: picture(folder, "png"),
    "model": lambda folder: model(folder, summed=True),
    "model without sum": lambda folder: model(folder, summed=False),
    "state": state,
    "npz": lambda folder: problem(folder, "npz"),
    "json": lambda folder: problem(folder, "json"),
    **foreign_subjects.SUBJECTS,
}
