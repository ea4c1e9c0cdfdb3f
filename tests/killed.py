"""Commands in processes of their own that are killed (SIGKILL) at a moment of a seed's choosing, and run again."""

import json
import multiprocessing
import os
import signal
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file

# A server that has imported everything forks the processes, so that a killed one costs no start of Python.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["otalab.cli", "otalab.detect.train", "otalab.data.download", "faster_coco_eval"])
LEFT_UNFINISHED = (".part", ".tag", ".jsonl")  # files that are not written whole, by their endings


def command(arguments: list[str], coco: dict[str, dict]) -> None:
    """The command line, in one thread and without a word; `coco` replaces addresses and sums of COCO's archives."""
    import torch

    from otalab.cli import main
    from otalab.data import download

    torch.set_num_threads(1)
    for name, values in coco.items():
        setattr(download, name, values)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.exit(main(arguments))


def run(arguments: list, kill_after: float | None = None, coco: dict | None = None) -> bool:
    """Run a command, killed after so many seconds; whether it ended by itself, which must be without an error."""
    process = PROCESSES.Process(target=command, args=([str(a) for a in arguments], coco or {}))
    process.start()
    process.join(kill_after)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), f"status {process.exitcode} of {arguments}"
    return process.exitcode == 0


def duration(arguments: list, coco: dict | None = None) -> float:
    """The seconds that an undisturbed command takes, once the server of processes is there."""
    run(["--version"])
    began = time.perf_counter()
    assert run(arguments, coco=coco)
    return time.perf_counter() - began


def killed_and_resumed(arguments: list, folder: Path, seconds: float, seed: int, kills: int, coco: dict | None = None):
    """Kill a command so many times within its `seconds`, each time after the last, then let it end.

    After each kill every file of `folder` that has its name must be whole.
    """
    rng = np.random.default_rng(seed)
    for _ in range(kills):
        if run(arguments, rng.uniform(0, seconds), coco):
            break
        for path in files_of(folder):
            require_whole(path)
    assert run(arguments, coco=coco)


def files_of(folder: Path) -> list[Path]:
    """All files, but those with a hidden name or in such a folder: these are being written."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts)]


def require_whole(path: Path) -> None:
    """Read a file to its end, by the reader of its kind."""
    if path.suffix in LEFT_UNFINISHED:
        return
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix in (".jpg", ".png", ".original"):
        with Image.open(path) as image:
            image.load()
    elif path.suffix == ".safetensors":
        load_file(path)
    else:  # an archive, or a state of a run, which is one
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path, hidden ones and leftovers included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
