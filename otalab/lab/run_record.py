"""What a run's folder records: settings, log, and figures computed from them; and tables of several runs."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from otalab.detect.config import TrainConfig
from otalab.detect.run_folder import MAY_CHANGE, is_config, read_log
from otalab.errors import InputError

PARTS = {"data": "data_seconds", "forward": "forward_seconds", "assignment": "assign_seconds"}
PARTS |= {"backward": "backward_seconds"}  # name of each part of a step, and its key in the log's lines


@dataclass(frozen=True)
class RunRecord:
    """A training run, finished or not.

    settings: `TrainConfig` as a dict; settings that the run did not record have their defaults
    log:      the lines of log.jsonl, see `read_log`
    """

    folder: Path
    settings: dict
    log: list[dict]

    @cached_property
    def steps(self) -> list[dict]:
        """The log's lines of training steps."""
        return [line for line in self.log if "loss" in line]

    @cached_property
    def evaluations(self) -> list[dict]:
        """The log's lines of evaluations."""
        return [line for line in self.log if "metrics" in line]

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last evaluation, see `coco_metrics`; empty before the first evaluation."""
        return self.evaluations[-1]["metrics"] if self.evaluations else {}

    @property
    def best(self) -> tuple[float, int | None]:
        """The largest AP and the step at which it was reached; (NaN, None) if no AP was measured."""
        known = [line for line in self.evaluations if not math.isnan(line["metrics"]["AP"])]
        line = max(known, key=lambda line: line["metrics"]["AP"], default=None)
        return (line["metrics"]["AP"], line["step"]) if line else (math.nan, None)

    @property
    def seconds(self) -> float:
        """Seconds of training without evaluation: a sum over parts of steps, or over epochs if a log lacks parts."""
        if all(PARTS["forward"] in line for line in self.steps):
            return sum(part_seconds(self.steps).values(), 0.0)
        return sum({line["epoch"]: line.get("seconds", math.nan) for line in self.steps}.values(), 0.0)


def read_run(folder: str | Path) -> RunRecord:
    """Read the record of a run. Raises InputError when the folder is not that of a run."""
    folder = Path(folder)
    if not is_config(folder / "config.json"):
        raise InputError(f"{folder} is no folder of a run: it has no config.json that says its settings")
    settings = asdict(TrainConfig()) | json.loads((folder / "config.json").read_bytes())
    return RunRecord(folder, settings, read_log(folder))


def part_seconds(log_lines: Sequence[dict]) -> dict[str, float]:
    """Seconds of each of `PARTS`, summed over the steps whose log lines have them."""
    lines = [line for line in log_lines if PARTS["forward"] in line]
    return {name: sum((line[key] for line in lines), 0.0) for name, key in PARTS.items()}


def duration(seconds: float | int) -> str:
    """Seconds as readable text: "45 s", "3.2 min", "5.0 h"."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return "–" if math.isnan(seconds) else f"{seconds:.0f} s"


def run_names(runs: Sequence[RunRecord]) -> list[str]:
    """A name for each run: that of its folder, or the whole path for all if two folders have the same name."""
    names = [run.folder.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def side_by_side(runs: Sequence[RunRecord]) -> list[dict]:
    """A row per run: name, the settings in which the runs differ, last and best AP, and training time."""
    known = dict.fromkeys(name for run in runs for name in run.settings if name not in MAY_CHANGE)
    values = {name: [str(run.settings.get(name)) for run in runs] for name in known}
    different = {name: each for name, each in values.items() if len(set(each)) > 1}
    rows = []
    for i, (name, run) in enumerate(zip(run_names(runs), runs, strict=True)):
        last = {key: run.metrics.get(key, math.nan) for key in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
        best, step = run.best
        rows.append(
            {"run": name}
            | {setting: each[i] for setting, each in different.items()}
            | last
            | {"best AP": best, "at step": step, "time": duration(run.seconds)}
        )
    return rows
