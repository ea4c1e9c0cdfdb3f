"""The plan of a study: data, methods, seeds, settings, and the questions, which are written before the first run.

plan = read_plan("benchmarks/plans/shapes.toml")   # or Plan(...), whose fields have the same names
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from otalab.assign import build_assigner
from otalab.data.scene import ShapesConfig
from otalab.detect.config import TrainConfig
from otalab.errors import InputError

DECIDED = {"data", "out", "seed"}  # settings that the fields of a plan decide


@dataclass(frozen=True)
class Scenes:
    """Scenes to be drawn: how many, how they look, and whether all shapes are of one class, "shape"."""

    train: int
    val: int
    one_class: bool = False
    shapes: ShapesConfig = field(default_factory=ShapesConfig)


@dataclass(frozen=True)
class Contrast:
    """A question, and the difference that answers it: AP of method `a` minus AP of method `b`.

    data:   the data sets on which it is asked; all data sets of the plan if none is named
    across: two data sets instead; the answer is how much larger the difference is on the first than on the second
    paper:  what the paper says about the question
    """

    a: str
    b: str
    question: str
    paper: str = ""
    data: tuple[str, ...] = ()
    across: tuple[str, ...] = ()


class Job(NamedTuple):
    """One detector to train: the data set, the method, and all settings but the folders.

    source: how the scenes are drawn, as JSON holds it; None for a folder
    """

    data: str
    method: str
    seed: int
    settings: dict[str, object]
    source: dict | None = None

    def config(self, **folders: str) -> TrainConfig:
        """The run's settings in full. Raises InputError for a setting that does not exist or has an invalid value."""
        own = self.settings | folders
        try:
            return TrainConfig.from_recipe(own.pop("recipe"), **own) if "recipe" in own else TrainConfig(**own)
        except TypeError as error:
            raise InputError(f"method {self.method}: {error}") from error


@dataclass(frozen=True)
class Plan:
    """A study: every method is trained on every data set with every seed, all else equal.

    data:      the data sets by name, each a folder in COCO format or `Scenes` to be drawn
    methods:   for each method, by name, the settings in which it differs; its assigner defaults to its name
    seeds:     the seeds, or their number, counted from 0
    settings:  settings of `TrainConfig` for all runs
    contrasts: the questions
    level:     confidence level at which all intervals of the contrasts hold together

    Raises InputError if data, methods or seeds are empty, if a level, seed, name or setting is not allowed, and for a
    contrast whose methods or data sets the plan does not have.
    """

    title: str
    data: Mapping[str, str | Scenes]
    methods: Mapping[str, Mapping[str, object]]
    seeds: int | tuple[int, ...] = 5
    settings: Mapping[str, object] = field(default_factory=dict)
    contrasts: tuple[Contrast, ...] = ()
    level: float = 0.95

    def __post_init__(self) -> None:
        seeds = range(self.seeds) if isinstance(self.seeds, int) else self.seeds
        object.__setattr__(self, "seeds", tuple(seeds))
        if not (self.data and self.methods and self.seeds and 0 < self.level < 1):
            raise InputError(
                f"a study needs data, methods, seeds and a level in 0..1, not {list(self.data)}, {list(self.methods)}, "
                f"{list(self.seeds)}, {self.level}"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"each seed counts once, not {list(self.seeds)}")
        if len({name.replace(":", " ") for name in self.methods}) < len(self.methods):
            raise InputError(f"of {', '.join(self.methods)} two would have one file: a colon counts as a space there")
        for name in (*self.data, *self.methods):
            if not re.fullmatch(r"\w[\w .,:=+-]*", name) or name != name.strip():
                raise InputError(f"{name!r} cannot name a data set or method: files and folders are called so")
        for contrast in self.contrasts:
            known(self.methods, "method", contrast.a, contrast.b)
            known(self.data, "data set", *contrast.data, *contrast.across)
            if contrast.a == contrast.b:
                raise InputError(f"{contrast.question!r} compares {contrast.a!r} with itself")
            if len(contrast.across) not in (0, 2):
                raise InputError(f"{contrast.question!r}: across needs two data sets, not {list(contrast.across)}")
        for name, own in {"settings": self.settings, **self.methods}.items():
            if decided := DECIDED & own.keys():
                raise InputError(f"{name}: {', '.join(sorted(decided))} cannot be a setting of a plan")
        for job in self.jobs():
            build_assigner(job.config().assigner)

    def jobs(self) -> list[Job]:
        """All runs, seed by seed, so that a study that is stopped has all methods of the seeds it has finished."""
        sources = {name: asdict(of) if isinstance(of, Scenes) else None for name, of in self.data.items()}
        return [
            Job(data, method, seed, {"assigner": method, **self.settings, **own, "seed": seed}, source)
            for seed in self.seeds
            for data, source in sources.items()
            for method, own in self.methods.items()
        ]


def known(there: Mapping, what: str, *names: str) -> None:
    """Raise InputError for any of the names that is not in `there`."""
    for name in names:
        if name not in there:
            raise InputError(f"{name!r} is no {what} of the plan; there is {', '.join(there)}")


def read_plan(path: str | Path) -> Plan:
    """Read a plan from a TOML file with the fields of `Plan`. Raises InputError, which names the file and the fault."""
    try:
        return parse_plan(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the plan {path}: {getattr(error, 'strerror', None) or error}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def parse_plan(text: str) -> Plan:
    """A plan from the text of its file. Raises InputError, and tomllib.TOMLDecodeError for text that is not TOML."""
    content = table("the plan", tomllib.loads(text))
    seeds = content.get("seeds", 1)
    if not all(type(seed) is int for seed in (seeds if isinstance(seeds, tuple) else (seeds,))):
        raise InputError(f"seeds is {seeds!r}; it must be a whole number, or several")
    for name in ("settings", "data", "methods"):
        content[name] = table(name, content.get(name, {}))
    content["methods"] = {name: table(f"method {name}", own) for name, own in content["methods"].items()}
    content["data"] = {name: data_set(name, each) for name, each in content["data"].items()}
    contrasts = content.get("contrasts", ())
    if not isinstance(contrasts, tuple):
        raise InputError(f"contrasts is {contrasts!r}; it must be a list of tables")
    content["contrasts"] = tuple(typed(Contrast, f"contrast {i}", each) for i, each in enumerate(contrasts, 1))
    return typed(Plan, "the plan", content)


def data_set(name: str, content: object) -> str | Scenes:
    """A data set of a plan's file: its `folder`, or `Scenes` from `train`, `val`, `one_class` and `shapes`."""
    content = table(f"data {name}", content)
    if "folder" in content:
        if len(content) > 1 or not isinstance(content["folder"], str):
            raise InputError(f"data {name} has a folder, and then nothing else: {content}")
        return content["folder"]
    shapes = typed(ShapesConfig, f"shapes of data {name}", content.get("shapes", {}))
    return typed(Scenes, f"data {name}", {**content, "shapes": shapes})


def typed(kind: type, name: str, content: object):
    """A dataclass from a TOML table. Raises InputError for fields that are missing, unknown or of another type."""
    content = table(name, content)
    own = {f.name: f for f in fields(kind)}
    needed = [key for key, f in own.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [key for key in needed if key not in content]:
        raise InputError(f"{name} lacks {', '.join(missing)}")
    if unknown := [key for key in content if key not in own]:
        raise InputError(f"{name} has {', '.join(unknown)}; there is {', '.join(own)}")
    for key, value in content.items():
        expected = own[key].type
        if expected is float and type(value) is int:
            content[key] = float(value)
        elif expected in (int, float, str, bool) and type(value) is not expected:
            raise InputError(f"{key} of {name} is {value!r}; it must be of the type {expected.__name__}")
        elif expected == tuple[str, ...] and not (isinstance(value, tuple) and all(type(v) is str for v in value)):
            raise InputError(f"{key} of {name} is {value!r}; it must be a list of names")
    return kind(**content)


def table(name: str, content: object) -> dict:
    """The content, which must be a TOML table, with lists as tuples. Raises InputError for anything else."""
    if not isinstance(content, Mapping):
        raise InputError(f"{name} is {content!r}, not a table")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
