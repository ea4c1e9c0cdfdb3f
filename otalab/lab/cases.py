"""The problems to verify solvers on: small ones, random ones, images', and files that hold one."""

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from otalab.assign import AnchorPoints, Predictions, Targets, build_assigner
from otalab.errors import InputError, first_line
from otalab.files import write_json, write_whole
from otalab.lab.simulate import random_targets, seeded, simulate_predictions
from otalab.transport import TransportProblem

KINDS = ("toy", "random", "image")
KEYS = ("cost", "supply", "demand")
MOST_ROUTES = 10**8  # 0.8 GB of costs
MOST_BYTES = 8 * MOST_ROUTES + 2**20  # that a .npz file may unpack to


@dataclass(frozen=True)
class Case:
    """A problem to verify on; `labels` are the labels that the `ota` assigner gives, where it comes from an image."""

    title: str
    problem: TransportProblem
    labels: torch.Tensor | None = None


def case_of(name: str, seed: int = 0) -> Case:
    """The case that a name stands for: toy, random, image, or the path of a problem (see `load_problem`).

    Raises InputError for a name that is neither, and what `load_problem` raises.
    """
    if name == "toy":
        return toy_case()
    if name == "random":
        return random_case(seed=seed)
    if name == "image":
        return simulated_case(seed=seed)
    if Path(name).suffix not in (".npz", ".json"):
        raise InputError(f"no problem {name!r}; it is one of {', '.join(KINDS)} or a file that ends in .npz or .json")
    problem = load_problem(name)
    return Case(f"{name}: {len(problem.supply)} suppliers, {len(problem.demand)} demanders", problem)


def toy_case() -> Case:
    """Two bakeries and a shop that stays open late serve six cafes: small enough to solve by hand."""
    cost = torch.tensor(
        [[2.0, 3.0, 1.0, 7.0, 6.0, 8.0], [6.0, 5.0, 4.0, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0, 5.0, 5.0]]
    ).double()
    return Case("toy: 3 suppliers, 6 demanders", TransportProblem(cost, torch.tensor([2.0, 2, 2]), torch.ones(6)))


def random_case(num_rows: int = 13, num_columns: int = 400, seed: int = 0) -> Case:
    """Uniform costs in [0, 10) and whole supplies; the last row supplies what the others leave.

    Raises InputError for no row, for more rows than columns, and for more than MOST_ROUTES routes.
    """
    if not 1 <= num_rows <= num_columns:
        raise InputError(f"a random problem of {num_rows} rows needs so many columns or more, not {num_columns}")
    if num_rows * num_columns > MOST_ROUTES:
        raise InputError(f"a random problem of {num_rows}x{num_columns} has more than {MOST_ROUTES:,} routes")
    generator = seeded(seed)
    cost = 10 * torch.rand(num_rows, num_columns, generator=generator, dtype=torch.float64)
    others = num_rows - 1
    most = max(2, num_columns // max(1, others))  # so that they never offer more than the columns want
    supply = torch.randint(1, most, (others,), generator=generator).double()
    supply = torch.cat((supply, (num_columns - supply.sum()).reshape(1)))
    title = f"random: {num_rows} suppliers, {num_columns} demanders, seed {seed}"
    return Case(title, TransportProblem(cost, supply, torch.ones(num_columns)))


def image_case(title: str, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Case:
    """The problem that `ota` solves for one image, every point and forbidden pair included, and its labels."""
    assignment = build_assigner("ota")(points, predictions, targets)
    problem = TransportProblem(assignment.cost, assignment.supply, torch.ones(len(points)))
    return Case(title, problem, assignment.matched_gt)


def simulated_case(size: tuple[int, int] = (256, 320), num_gt: int = 12, num_classes: int = 80, seed: int = 0) -> Case:
    """An image in the middle of training, simulated."""
    generator = seeded(seed)
    points = AnchorPoints.for_image(size)
    if num_gt * len(points) > MOST_ROUTES:
        raise InputError(f"{num_gt} gts on {len(points)} anchor points have more than {MOST_ROUTES:,} routes")
    targets = random_targets(size, num_gt, num_classes, generator)
    predictions = simulate_predictions(points, targets, num_classes, generator)
    title = f"image {size[0]}x{size[1]} px, mid-training (simulated): {num_gt} gts, {len(points)} anchor points"
    return image_case(title + f", seed {seed}" * (seed != 0), points, predictions, targets)


def detector_cases(model, dataset, count: int) -> Iterable[Case]:
    """The problems that a detector meets on the first `count` images of a data set that have gts."""
    found = 0
    for index in range(len(dataset)):
        image, target = dataset[index]
        if len(target["labels"]) == 0:
            continue
        points, (predictions,) = model.predict([image])
        targets = Targets(target["boxes"], target["labels"])
        title = f"image {int(target['image_id'])}, detector: {len(targets)} gts, {len(points)} anchor points"
        yield image_case(title, points, predictions.detach(), targets)
        found += 1
        if found == count:
            return


def load_problem(path: str | Path) -> TransportProblem:
    """One problem, in float64, of a .npz or .json file with cost (m, n), supply (m,) and demand (n,).

    A forbidden route costs +inf: in JSON null, "Infinity" or the bare Infinity that Python writes. Raises InputError,
    which names the path, for a file that cannot be read, lacks a key or holds no problem.
    """
    read = {".npz": read_npz, ".json": read_json}.get(Path(path).suffix)
    if read is None:
        raise InputError(f"{path} is no problem; its name must end in .npz or .json")
    try:
        cost, supply, demand = read(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if cost.ndim != 2 or 0 in cost.shape:
        raise InputError(f"{path}: cost has the shape {cost.shape}; a problem has rows and columns (m, n)")
    try:
        return TransportProblem(cost, supply, demand)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_npz(path: str | Path) -> list[np.ndarray]:
    """The three arrays. Raises InputError for another file, a missing key and what is not numbers."""
    packed = io.BytesIO(Path(path).read_bytes())
    try:
        content = np.load(packed, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise InputError(f"{path} holds one array without a name; a problem has {', '.join(KEYS)}")
        check_keys(path, content.files)
        if sum(part.file_size for part in content.zip.infolist()) > MOST_BYTES:
            raise InputError(f"{path} unpacks to more than {MOST_BYTES:,} bytes")
        return [numbers(path, key, content[key]) for key in KEYS]
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy have ten kinds of them for a damaged file
        raise InputError(f"{path} is not a whole .npz file of numbers: {first_line(error)}") from error


def read_json(path: str | Path) -> list[np.ndarray]:
    """The three arrays; null in `cost` is +inf. Raises InputError as `read_npz` does."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no object with {', '.join(KEYS)}")
    check_keys(path, content)
    arrays = []
    for key in KEYS:
        values = object_array(path, key, content[key])
        if key == "cost":
            values = np.where(np.equal(values, None), np.inf, values)
        arrays.append(numbers(path, key, values))
    return arrays


def check_keys(path: str | Path, keys: Iterable[str]) -> None:
    missing = [key for key in KEYS if key not in keys]
    if missing:
        raise InputError(f"{path} lacks {' and '.join(missing)}; a problem has {', '.join(KEYS)}")


def object_array(path: str | Path, key: str, values) -> np.ndarray:
    try:
        return np.array(values, dtype=object)
    except ValueError as error:
        raise InputError(f"{path}: {key} has rows of different lengths") from error


def numbers(path: str | Path, key: str, values: np.ndarray) -> np.ndarray:
    """`values` as float64, in C order whatever the order of the file."""
    try:
        if values.dtype.kind in "cmM":  # NumPy would drop a part, or take dates and times for numbers
            raise ValueError(f"it is {values.dtype}")
        return np.asarray(values, dtype=np.float64, order="C")
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: {key} does not hold rows of numbers: {first_line(error)}") from error


def save_problem(path: str | Path, problem: TransportProblem) -> None:
    """Write a problem, whole or not at all, so that `load_problem` reads it; .json has null for forbidden routes.

    Raises InputError for another ending and for a path that cannot be written.
    """
    arrays = {key: getattr(problem, key).cpu().numpy() for key in KEYS}
    if Path(path).suffix == ".json":
        write_json(path, {key: values.tolist() for key, values in arrays.items()})
    elif Path(path).suffix == ".npz":
        with write_whole(path) as temporary:
            np.savez_compressed(temporary, **arrays)
    else:
        raise InputError(f"cannot save the problem in {path}: its name must end in .npz or .json")
