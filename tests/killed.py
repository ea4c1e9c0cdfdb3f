"""Commands in processes of their own that are killed (SIGKILL) at a moment of a seed's choosing, and run again."""

import json
import multiprocessing
import os
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from processes import PROCESSES
from safetensors.torch import load_file

LEFT_UNFINISHED = (".part", ".jsonl")  # files that are not written whole, by their endings


class Kills(NamedTuple):
    """How often a test kills."""

    rounds: int
    """runs that are killed at random moments"""
    a_round: int
    """kills of such a run, each time that it was begun again"""
    stride: int
    """further runs are killed at their first change of a file, at their first + stride, and so on to their end"""


def command(arguments: list[str], kill_at: int | None, coco: dict[str, dict]) -> None:
    """The command line, in one thread and without a word; `coco` replaces addresses and sums of COCO's archives."""
    import torch

    from otalab.cli.main import main
    from otalab.data import coco_download
    from otalab.viz import run_report

    run_report.add_run_sections = lambda *_: None  # a page must be whole here, whatever it shows
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for loader processes, as in a command from a shell
    for name, values in coco.items():
        setattr(coco_download, name, values)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    if kill_at is not None:
        sys.addaudithook(killer(kill_at))
    sys.exit(main(arguments))


def killer(countdown: int) -> Callable:
    """A hook that kills this process just before it changes files for the nth time: opens, renames, removes."""

    process = os.getpid()

    def hook(event: str, arguments: tuple) -> None:
        nonlocal countdown
        if os.getpid() != process:  # a loader process, which has inherited the hook
            return
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            countdown -= 1
            if countdown == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def run(arguments: list, kill_after: float | None = None, kill_at: int | None = None, coco: dict | None = None) -> bool:
    """Run a command, killed after so many seconds or at its nth change of a file; whether it came to its end."""
    process = PROCESSES.Process(target=command, args=([str(a) for a in arguments], kill_at, coco or {}))
    process.start()
    process.join(kill_after)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), f"status {process.exitcode} of {arguments}"
    return process.exitcode == 0


def killed_and_run_again(
    arguments: Callable[[Path], list], folder: Path, kills: Kills, coco: dict | None = None
) -> Iterator[Path]:
    """Folders in which a command was killed and then ran to its end; the first is that of a run never killed.

    `arguments` of a folder are those of the command that writes into it. After each kill every file is whole.
    """
    run(["--version"])  # the server of processes is there
    began = time.perf_counter()
    assert run(arguments(folder / "whole"), coco=coco)
    seconds = time.perf_counter() - began
    yield folder / "whole"
    rng = np.random.default_rng(0)
    for i in range(kills.rounds):
        place = folder / f"round{i}"
        for _ in range(kills.a_round):
            run(arguments(place), kill_after=rng.uniform(0, seconds), coco=coco)
            require_all_whole(place)
        assert run(arguments(place), coco=coco)
        yield place
    for change in count(1, kills.stride):
        place = folder / f"change{change}"
        ended = run(arguments(place), kill_at=change, coco=coco)
        require_all_whole(place)
        assert ended or run(arguments(place), coco=coco)
        yield place
        if ended:
            return


def require_all_whole(folder: Path) -> None:
    """Read every file, but those with a hidden name or in such a folder: these are being written."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            require_whole(path)


def require_whole(path: Path) -> None:
    """Read a file to its end, by the reader of its kind."""
    if path.suffix in LEFT_UNFINISHED:
        return
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix in (".txt", ".html"):
        assert path.read_text().rstrip(" ").endswith("\n" if path.suffix == ".txt" else "</html>\n")
    elif path.suffix in (".jpg", ".png"):
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
