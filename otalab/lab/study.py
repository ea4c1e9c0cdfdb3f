"""Does assignment matter? Train all runs of a plan, keep one card per run, and resume a study that was stopped.

cards = run_plan(read_plan("benchmarks/plans/shapes.toml"), "runs/study")
"""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from otalab.data.coco import CocoDataset, collate
from otalab.data.shapes import make_shapes
from otalab.data.transforms import eval_transforms
from otalab.detect.detector import Detector, as_targets
from otalab.detect.device import to_device
from otalab.detect.evaluate import open_split
from otalab.detect.train import open_trainset, train
from otalab.errors import InputError
from otalab.files import write_json
from otalab.lab.card import Card, card_name, card_path, make_card, read_card, shown_settings, write_card
from otalab.lab.plan import Job, Plan, Scenes
from otalab.lab.timing import limit_threads
from otalab.progress import progress_bar

LOOKED_AT = 64  # number of training images whose labels are compared from epoch to epoch


def run_plan(
    plan: Plan,
    out: str | Path,
    processes: int = 1,
    cards: str | Path | None = None,
    hours: float | None = None,
    progress: bool = True,
) -> list[Card]:
    """Train every run of the plan that has no card yet, and return all cards that exist at the end.

    Runs of one seed share initial weights, order of images and augmentation. Each run has its folder in `out`/runs and
    leaves its card in `cards` (`out`/cards if not given). A run that was stopped resumes after its last epoch. Scenes
    are drawn into `out`/data.

    processes: number of runs trained at the same time, each with an equal share of the threads
    hours:     start no run once this many hours have passed

    Raises InputError for faulty input, which includes a card with other settings.
    """
    if processes < 1:
        raise InputError(f"a study needs a process at least, not {processes}")
    out, cards = Path(out), Path(cards or Path(out) / "cards")
    missing = [job for job in plan.jobs() if kept(cards, job) is None]
    folders = {name: str(data_folder(plan.data[name], out / "data" / name)) for name in {job.data for job in missing}}
    threads = max(1, torch.get_num_threads() // processes)
    work = [partial(train_job, job, folders[job.data], str(run_path(out, job)), str(cards), threads) for job in missing]
    end = time.monotonic() + 3600 * hours if hours is not None else float("inf")
    with progress_bar(total=len(work), unit="run", desc=plan.title, disable=not progress) as bar:
        for _ in side_by_side(work, processes, end):
            bar.update()
    return read_cards(plan, cards)


def side_by_side(work: Sequence[partial], processes: int, end: float) -> Iterator[None]:
    """Call all of `work`, up to `processes` at a time, and yield after each call that ends.

    end: a time of `time.monotonic`, after which no call is started
    """
    if processes == 1:
        for call in work:
            if time.monotonic() < end:
                yield call()
        return
    left, running = iter(work), set()
    spawn = multiprocessing.get_context("spawn")  # a forked PyTorch may hang
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=end_with_parent) as pool:
        while True:
            if time.monotonic() < end:
                running |= {pool.submit(call) for call in islice(left, processes - len(running))}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                yield each.result()


def end_with_parent() -> None:
    """End this process when its parent is killed; otherwise it would finish training and then wait for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def kept(cards: Path, job: Job) -> Card | None:
    """The card of a job, or None. Raises InputError for a card that was made with other settings."""
    path = card_path(cards, job)
    if not path.exists():
        return None
    card = read_card(path)
    made = card.settings | {"scenes": card.source}
    for name, asked in (shown_settings(job) | {"scenes": job.source}).items():
        if name in made and made[name] != asked:  # an older card lacks settings that were added after it
            raise InputError(f"{path} is of {name}={made[name]}, not {asked}; choose another folder")
    return card


def read_cards(plan: Plan, cards: str | Path) -> list[Card]:
    """The cards of a plan that a folder holds, in the order of the plan's jobs. Raises InputError for a faulty card."""
    found = (kept(Path(cards), job) for job in plan.jobs())
    return [card for card in found if card is not None]


def run_path(out: Path, job: Job) -> Path:
    """The folder of a run."""
    return out / "runs" / card_name(job)


def data_folder(data: str | Scenes, folder: Path) -> str | Path:
    """The folder of a data set. Scenes are first drawn into `folder`."""
    if isinstance(data, str):
        return data
    make_shapes(folder, data.train, data.val, data.shapes, progress=False)
    if data.one_class:
        for file in folder.glob("*/instances.json"):
            content = json.loads(file.read_text())
            content["categories"] = [{"id": 1, "name": "shape"}]
            content["annotations"] = [row | {"category_id": 1} for row in content["annotations"]]
            write_json(file, content)
    return folder


def train_job(job: Job, data: str, out: str, cards: str, threads: int) -> None:
    """Train and evaluate one detector with this number of threads, and write its card."""
    with limit_threads(threads):
        config = job.config(data=data, out=out)
        trainset = open_trainset(config, eval_transforms(config.size, config.longest))
        labels = LabelChanges(trainset)
        train(config, resume=True, progress=False, each_epoch=labels.look)
        heldout = open_split(data, "val", trainset.class_names)
        write_card(cards, make_card(job, out, trainset, heldout, labels.changed))
        (Path(out) / "checkpoint.pt").unlink()  # ten times as large as the weights, and the run is done


class LabelChanges:
    """How much the labels of the same training images change from one epoch to the next.

    changed: for each epoch the share of labels that differ from those of the previous epoch, see `share_changed`. None
             for epochs before the first call of `look`, and for that first one, which has nothing to compare with
    """

    def __init__(self, trainset: CocoDataset) -> None:
        self.trainset = trainset
        self.changed: list[float | None] = []
        self.last: list[Tensor] | None = None

    @torch.inference_mode()
    def look(self, epoch: int, model: Detector) -> None:
        """Label the images by the detector's current predictions, and compare the labels with the last ones."""
        device = next(model.parameters()).device
        model.eval()
        now = []
        for index in range(min(LOOKED_AT, len(self.trainset))):
            images, targets = to_device(*collate([self.trainset[index]]), device)
            points, predictions = model.predict(images)
            (found,) = model.assign(points, predictions, [as_targets(target) for target in targets])
            now.append(found.matched_gt.cpu())
        self.changed += [None] * (epoch - len(self.changed))
        self.changed.append(None if self.last is None else share_changed(self.last, now))
        self.last = now


def share_changed(before: Sequence[Tensor], now: Sequence[Tensor]) -> float:
    """Changed labels over the points that learn a gt in `before` or `now`, which hold the labels (n,) of each image."""
    pairs = list(zip(before, now, strict=True))
    learns = [(a >= 0) | (b >= 0) for a, b in pairs]
    changed = sum(int(((a != b) & used).sum()) for (a, b), used in zip(pairs, learns, strict=True))
    return round(changed / max(1, sum(int(used.sum()) for used in learns)), 5)
