"""The problems that solvers are verified on: a toy, random ones, those of images, and problems read from files."""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from otalab.assign import AnchorPoints, Predictions, Targets, build_assigner
from otalab.errors import InputError, first_line
from otalab.files import write_json, write_whole
from otalab.lab.simulate import make_scene, seeded
from otalab.transport import TransportProblem

KINDS = ("toy", "random", "image")
KEYS = ("cost", "supply", "demand")
MOST_ROUTES = 10**8  # 0.8 GB of costs
MOST_BYTES = 8 * MOST_ROUTES + 2**20  # limit on the unpacked size of a .npz file


@dataclass(frozen=True)
class Case:
    """A problem to verify on; `labels` are those of the `ota` assigner if the problem comes from an image."""

    title: str
    problem: TransportProblem
    labels: torch.Tensor | None = None


def case_of(name: str, seed: int = 0) -> Case:
    """The case that a name stands for: toy, random, image, or the path of a problem (see `load_problem`).

    Raises InputError for any other name, and whatever `load_problem` raises.
    """
    made = {"toy": toy_case, "random": partial(random_case, seed=seed), "image": partial(simulated_case, seed=seed)}
    if name in made:
        return made[name]()
    if Path(name).suffix not in READERS:
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
    """Uniform costs in [0, 10) and whole supplies; the last row supplies what the other rows leave over.

    Raises InputError if there is no row, if there are more rows than columns, and for more than MOST_ROUTES routes.
    """
    if not 1 <= num_rows <= num_columns:
        raise InputError(f"a random problem of {num_rows} rows needs so many columns or more, not {num_columns}")
    if num_rows * num_columns > MOST_ROUTES:
        raise InputError(f"a random problem of {num_rows}x{num_columns} has more than {MOST_ROUTES:,} routes")
    generator = seeded(seed)
    cost = 10 * torch.rand(num_rows, num_columns, generator=generator, dtype=torch.float64)
    others = num_rows - 1
    most = max(2, num_columns // max(1, others))  # so that the other rows never supply more than the demand
    supply = torch.randint(1, most, (others,), generator=generator).double()
    supply = torch.cat((supply, (num_columns - supply.sum()).reshape(1)))
    title = f"random: {num_rows} suppliers, {num_columns} demanders, seed {seed}"
    return Case(title, TransportProblem(cost, supply, torch.ones(num_columns)))


def image_case(title: str, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Case:
    """The whole problem that `ota` solves for one image, forbidden pairs included, and the labels that `ota` gives."""
    assignment = build_assigner("ota")(points, predictions, targets)
    problem = TransportProblem(assignment.cost, assignment.supply, torch.ones(len(points)))
    return Case(title, problem, assignment.matched_gt)


def simulated_case(size: tuple[int, int] = (256, 320), num_gt: int = 12, num_classes: int = 80, seed: int = 0) -> Case:
    """The problem of one simulated image, with predictions as in the middle of training.

    Raises InputError for more than MOST_ROUTES pairs of a gt and an anchor point.
    """
    num_points = len(AnchorPoints.for_image(size))
    if num_gt * num_points > MOST_ROUTES:
        raise InputError(f"{num_gt} gts on {num_points} anchor points have more than {MOST_ROUTES:,} routes")
    title = f"image {size[0]}x{size[1]} px, mid-training (simulated): {num_gt} gts, {num_points} anchor points"
    scene = make_scene(num_gt, size, num_classes, seed=seed)
    return image_case(title + f", seed {seed}" * (seed != 0), *scene)


def detector_cases(model, dataset, count: int) -> Iterable[Case]:
    """Yield the problems that a detector's predictions pose, for the first `count` images that have gts."""
    filled = ((image, target) for image, target in dataset if len(target["labels"]))
    for image, target in islice(filled, count):
        points, (predictions,) = model.predict([image])
        targets = Targets(target["boxes"], target["labels"])
        title = f"image {int(target['image_id'])}, detector: {len(targets)} gts, {len(points)} anchor points"
        yield image_case(title, points, predictions.detach(), targets)


def load_problem(path: str | Path) -> TransportProblem:
    """Load one problem, in float64, from a .npz or .json file with cost (m, n), supply (m,) and demand (n,).

    A forbidden route costs +inf. In JSON it is null, "Infinity" or the bare Infinity that Python writes. Raises
    InputError, which names the path, for a file that cannot be read, lacks a key or does not hold a problem.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise InputError(f"{path} is no problem; its name must end in .npz or .json")
    try:
        content = READERS[path.suffix](path.read_bytes())
        missing = [key for key in KEYS if key not in content]
        if missing:
            raise InputError(f"it lacks {' and '.join(missing)}; a problem has {', '.join(KEYS)}")
        cost, supply, demand = (numbers(key, content[key]) for key in KEYS)
        if cost.ndim != 2 or 0 in cost.shape:
            raise InputError(f"cost has the shape {cost.shape}; a problem has rows and columns (m, n)")
        return TransportProblem(cost, supply, demand)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile, zlib, json and NumPy raise many different exceptions for a damaged file
        raise InputError(f"{path} is not a whole {path.suffix} file of numbers: {first_line(error)}") from error


def read_npz(packed: bytes) -> Mapping[str, np.ndarray]:
    """The arrays of a .npz file by name; each is unpacked when it is accessed."""
    content = np.load(io.BytesIO(packed), allow_pickle=False)
    if not isinstance(content, np.lib.npyio.NpzFile):
        raise InputError(f"it holds one array without a name; a problem has {', '.join(KEYS)}")
    if sum(part.file_size for part in content.zip.infolist()) > MOST_BYTES:
        raise InputError(f"it unpacks to more than {MOST_BYTES:,} bytes")
    return content


def read_json(text: bytes) -> dict:
    """The values of a JSON object by name."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise InputError(f"it holds no object with {', '.join(KEYS)}")
    return content


READERS = {".npz": read_npz, ".json": read_json}


def numbers(key: str, values) -> Float[np.ndarray, "..."]:
    """`values` as float64 in C order. The text "Infinity" becomes +inf, and in `cost` so does None (JSON's null)."""
    try:
        array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
        if array.dtype.kind in "cmM":  # NumPy would drop the imaginary part, or read dates and times as numbers
            raise ValueError(f"it is {array.dtype}")
        if key == "cost" and array.dtype.kind == "O":
            array = np.where(np.equal(array, None), np.inf, array)
        return array.astype(np.float64, order="C")
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{key} does not hold rows of numbers: {first_line(error)}") from error


def save_problem(path: str | Path, problem: TransportProblem) -> None:
    """Write a problem, whole or not at all, for `load_problem` to read; .json has null for forbidden routes.

    Raises InputError for any other suffix and for a path that cannot be written.
    """
    arrays = {key: getattr(problem, key).cpu().numpy() for key in KEYS}
    if Path(path).suffix == ".json":
        write_json(path, {key: values.tolist() for key, values in arrays.items()})
    elif Path(path).suffix == ".npz":
        with write_whole(path) as temporary:
            np.savez_compressed(temporary, **arrays)
    else:
        raise InputError(f"cannot save the problem in {path}: its name must end in .npz or .json")
