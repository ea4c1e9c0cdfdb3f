"""The folder of a training run: what it holds, and how a run goes on from it."""

import json
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import BinaryIO

from otalab.detect.checkpoint import load_state, restore
from otalab.detect.config import TrainConfig
from otalab.detect.detector import Detector
from otalab.errors import InputError
from otalab.files import sweep, to_json, write_json, write_whole

FILES = ("config.json", "log.jsonl", "data.txt", "metrics.json")  # that a run writes over
MAY_CHANGE = ("out", "device", "workers")  # a folder may move, and a resume use another machine


def require_free(out: Path, resume: bool) -> None:
    """Raise InputError when a run in `out` would destroy another run, or files that are no run's."""
    checkpoint = out / "checkpoint.pt"
    if not resume and (checkpoint.exists() or (out / "model.safetensors").exists()):
        raise InputError(f"{out} holds a run already; resume it (--resume) or choose another folder (--out)")
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"cannot write {out}/config.json: {there} is not a folder")
    foreign = [name for name in FILES if (out / name).exists()]
    if foreign and not checkpoint.exists() and not is_config(out / "config.json"):
        raise InputError(f"{out} holds a {foreign[0]} that is no run's; choose another folder (--out)")


def is_config(path: Path) -> bool:
    """Whether a file holds the settings of a run."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() >= {"data", "out", "assigner", "epochs"}


def start(out: Path, config: TrainConfig, model: Detector, average: Detector, optimizer) -> int:
    """Prepare the run's folder, load its last state if it has one, and return the first epoch to run.

    Raises InputError when the state is damaged, of another detector, or of a run with other settings.
    """
    path = out / "checkpoint.pt"
    sweep(out)  # a killed run may have left half a checkpoint
    if not path.exists():
        write_json(out / "config.json", asdict(config))
        (out / "log.jsonl").unlink(missing_ok=True)
        return 0
    state = load_state(path)
    stored, given, default = state["config"], kept_settings(config), kept_settings(TrainConfig())
    for name, value in given.items():
        old = stored.get(name, default[name])  # a run from before a setting existed had its default
        if old != value:
            raise InputError(f"{out} was started with {name}={old}, not {value}; a resumed run keeps its settings")
    if state["epoch"] > config.epochs:
        raise InputError(f"{path} is of epoch {state['epoch']}, but the run has {config.epochs}")
    restore(path, state, model, average, optimizer)
    drop_lines_after(out / "log.jsonl", state["epoch"])
    return state["epoch"]


def run_state(config: TrainConfig, epoch: int, model: Detector, average: Detector, optimizer) -> dict:
    """All that a run needs to go on after `epoch` epochs."""
    return {
        "config": kept_settings(config),
        "epoch": epoch,
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def kept_settings(config: TrainConfig) -> dict:
    """The settings that a resumed run must share, as JSON holds them."""
    names = [f.name for f in fields(config) if f.name not in MAY_CHANGE]
    return json.loads(json.dumps({name: getattr(config, name) for name in names}))


def write_line(log: BinaryIO, line: dict) -> None:
    """Append one line to the run's log, a file opened without a buffer. Raises InputError when the disk is full."""
    content = (to_json(line) + "\n").encode()
    try:
        while content:  # the first write to a disk that fills up takes a part, the next says why
            content = content[log.write(content) :]
    except OSError as error:
        raise InputError(f"cannot write {log.name}: {error.strerror or error}") from error


def write_text(path: Path, lines: list[str]) -> None:
    """Write lines of text, whole or not at all; what is no Unicode is escaped."""
    with write_whole(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8", errors="backslashreplace")


def drop_lines_after(path: Path, epoch: int) -> None:
    """Forget the log of epochs that will be run again."""
    kept = []
    with suppress(FileNotFoundError, ValueError):  # a killed run may have cut its last line short
        for line in path.read_text(encoding="utf-8").splitlines():
            if json.loads(line)["epoch"] < epoch:
                kept.append(line)
    write_text(path, kept)


def read_log(path: str | Path) -> list[dict]:
    """The lines of a run's log.jsonl, given the file or the run's folder. A last line that was cut off is left out.

    Raises InputError when there is no log or a line before the last is damaged.
    """
    path = Path(path)
    path = path / "log.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"no log at {path}")
    texts = path.read_text().splitlines()
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            if number < len(texts):
                raise InputError(f"{path}, line {number}: {error}") from error
    return lines
