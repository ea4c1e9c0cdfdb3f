"""The folder of a training run: which files it holds, and how a run continues from them."""

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from otalab.detect.checkpoint import check_moments, check_tensors, load_state, save_state
from otalab.detect.config import TrainConfig
from otalab.detect.detector import Detector
from otalab.errors import InputError, first_line, quoted
from otalab.files import read_json, require_writable, to_json, write_whole

# files of the folder that a new run overwrites
FILES = ("config.json", "log.jsonl", "data.txt", "metrics.json", "detections.json", "report.html")
# settings that may change when a run is resumed, because its weights do not depend on them
MAY_CHANGE = ("out", "device", "workers", "checkpoint_every", "eval_every", "tensorboard", "recipe")


def require_free(out: Path, resume: bool) -> None:
    """Raise InputError if a run in `out` would overwrite files that are not a run's, or another run without `resume`.

    Also raises InputError if nothing can be written into `out`.
    """
    checkpoint = out / "checkpoint.pt"
    if not resume and (checkpoint.exists() or (out / "model.safetensors").exists()):
        raise InputError(f"{out} holds a run already; resume it (--resume) or choose another folder (--out)")
    require_writable(out / "config.json")
    foreign = [name for name in FILES if (out / name).exists()]
    if foreign and not checkpoint.exists() and not is_config(out / "config.json"):
        raise InputError(f"{out} holds a {foreign[0]} that is no run's; choose another folder (--out)")


def is_config(path: Path) -> bool:
    """Whether a file holds the settings of a run."""
    content = read_json(path)
    return isinstance(content, dict) and content.keys() >= {"data", "out", "assigner", "epochs"}


@dataclass
class Run:
    """All parts of a run after `step` steps; its checkpoint holds what is needed to continue.

    The order of the images, their augmentation and all random numbers follow from the seed and the step, so they need
    no state of their own.
    """

    config: TrainConfig
    model: Detector
    ema_model: Detector
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0

    def __post_init__(self) -> None:
        self.peak_lrs = [group["lr"] for group in self.optimizer.param_groups]

    @property
    def out(self) -> Path:
        """The run's folder."""
        return Path(self.config.out)

    def save(self) -> None:
        """Write checkpoint.pt, whole or not at all."""
        state = {
            "config": kept_settings(self.config),
            # not "step", which is a key of the optimiser too: pickle would share the two strings in some files only
            "steps_done": self.step,
            "model": self.model.state_dict(),
            "average": self.ema_model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        save_state(self.out / "checkpoint.pt", state)

    def load(self, total: int) -> None:
        """Continue from checkpoint.pt if it exists.

        The optimizer keeps its own settings, because they follow from the run's. Raises InputError if the checkpoint is
        damaged or not finite, belongs to another detector or optimizer, has more steps than `total`, or is from a run
        with other settings.
        """
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state = load_state(path)
        stored = kept_settings(TrainConfig()) | state["config"]  # a run older than a setting had its default
        given = kept_settings(self.config)
        if other := [name for name in given if given[name] != stored[name]]:
            differ = ", ".join(f"{name}={stored[name]}, not {given[name]}" for name in other)
            raise InputError(
                f"{self.out} was started with {differ}; a resumed run keeps its settings, so give them again"
            )
        if state["steps_done"] > total:
            raise InputError(f"{path} is of step {state['steps_done']}, but the run has {total}")
        try:
            for name, part in (("model", self.model), ("average", self.ema_model)):
                check_tensors(state[name], part.state_dict())
                part.load_state_dict(state[name])
            kept = state["optimizer"]["state"]
            check_moments(kept, [parameter for group in self.optimizer.param_groups for parameter in group["params"]])
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": kept})
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(state["scaler"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} does not fit the detector: {first_line(error)}") from error
        self.step = state["steps_done"]


class RunLog:
    """The log of a run: log.jsonl and, with `tensorboard`, the same numbers for TensorBoard.

    Lines after `step` are dropped, because those steps will run again. Raises InputError if TensorBoard is wanted but
    not installed.
    """

    def __init__(self, out: Path, step: int, tensorboard: bool = False) -> None:
        self.path = out / "log.jsonl"
        former = read_log(self.path) if step and self.path.exists() else []
        self.lines = [line for line in former if line["step"] <= step]
        write_text(self.path, [to_json(line) for line in self.lines])
        self.board = open_tensorboard(out / "tensorboard", step) if tensorboard else None

    def write(self, line: dict) -> None:
        """Append one line. Raises InputError if it cannot be written, for example because the disk is full."""
        self.lines.append(line)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(to_json(line) + "\n")
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error
        if self.board is not None:
            for name, value in (line | line.get("metrics", {})).items():
                if isinstance(value, int | float) and name != "step":
                    self.board.add_scalar(f"{'eval' if 'metrics' in line else 'train'}/{name}", value, line["step"])
            self.board.flush()

    def best_ap(self) -> float:
        """The highest AP of the evaluations so far; -1 if there was none, or none whose AP is a number."""
        found = (line["metrics"]["AP"] for line in self.lines if "metrics" in line)
        return max((ap for ap in found if not math.isnan(ap)), default=-1.0)

    def evaluated(self, step: int) -> dict[str, float] | None:
        """The metrics at `step`, or None if the run was not evaluated there."""
        return next((line["metrics"] for line in self.lines if "metrics" in line and line["step"] == step), None)


def open_tensorboard(folder: Path, step: int):
    """A writer of TensorBoard's files that drops what they hold after `step`.

    Raises InputError if TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("tensorboard is not installed; it is in the extra 'tensorboard'") from error
    return SummaryWriter(folder, purge_step=step + 1)


def kept_settings(config: TrainConfig) -> dict:
    """The settings that a resumed run must share, in the types that JSON would give back."""
    names = [f.name for f in fields(config) if f.name not in MAY_CHANGE]
    return json.loads(json.dumps({name: getattr(config, name) for name in names}))


def write_text(path: Path, lines: list[str]) -> None:
    """Write lines of text, whole or not at all. Characters that UTF-8 cannot encode become backslash escapes."""
    with write_whole(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8", errors="backslashreplace")


def is_log_line(value: object) -> bool:
    """Whether a value from a JSON file can be a line of a run's log: of a step, or of an evaluation."""
    return isinstance(value, dict) and type(value.get("step")) is int and isinstance(value.get("metrics", {}), dict)


def read_log(path: str | Path) -> list[dict]:
    """Read a run's log.jsonl, given the file or the run's folder, as a list of its lines.

    A last line that is not JSON was cut off, and is left out. Metrics that were not measured, null in the file, become
    NaN. Raises InputError if there is no log, and for any other line that is damaged.
    """
    path = Path(path)
    path = path / "log.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"no log at {path}")
    lines, texts = [], path.read_bytes().splitlines()
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
        except ValueError as error:
            if number == len(texts):
                break
            raise InputError(f"{path}, line {number}: {error}") from error
        if not is_log_line(line):
            raise InputError(f"{path}, line {number} is {quoted(line)}, not a line of a run's log")
        if "metrics" in line:
            line["metrics"] = {name: math.nan if value is None else value for name, value in line["metrics"].items()}
        lines.append(line)
    return lines
