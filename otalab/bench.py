"""How long one assignment takes, as a ratio to the textbook way, measured in one run on one thread."""

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import box_iou, sigmoid_focal_loss

from otalab.assign import AnchorPoints, Predictions, RadiusPrior, Targets, build_assigner
from otalab.simulate import random_targets, simulate_predictions

SIZE, NUM_CLASSES, NUM_GT = (800, 1344), 80, 20


@dataclass(frozen=True)
class Timing:
    """Median seconds of one way, and how many times faster than the textbook way it was (median of paired rounds)."""

    way: str
    seconds: float
    speed_up: float


@dataclass(frozen=True)
class Bench:
    """What was measured, on what, and the rows of the table."""

    task: str
    rounds: int
    machine: str
    torch_version: str
    rows: list[Timing]

    def as_dict(self) -> dict:
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.task}; medians of {self.rounds} interleaved rounds", ""]
        lines += [f"{'way':<58}{'seconds':>10}{'speed-up':>10}"]
        lines += [f"{row.way:<58}{row.seconds:>10.4f}{row.speed_up:>9.1f}x" for row in self.rows]
        return "\n".join(lines)


def bench_assign(rounds: int = 7) -> Bench:
    """Assign one 800x1344 image with 20 gts of 80 classes by every way in turn, `rounds` times over."""
    generator = torch.Generator().manual_seed(0)
    points = AnchorPoints.for_image(SIZE)
    targets = random_targets(SIZE, NUM_GT, NUM_CLASSES, generator)
    predictions = simulate_predictions(points, targets, NUM_CLASSES, generator)
    scene = (points, predictions, targets)
    ways: dict[str, Callable] = {
        "textbook: (m, n, C) losses, 50 full Sinkhorn iterations": lambda: textbook(*scene),
        "textbook, exponents clamped at -80": lambda: textbook(*scene, log_sum_exp=clamped),
        "ota-official (float64)": lambda: build_assigner("ota-official")(*scene),
        "ota (exact)": lambda: build_assigner("ota")(*scene),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for round_ in range(rounds + 1):
            for way, run in ways.items():
                start = time.perf_counter()
                run()
                if round_:  # the first round warms up
                    seconds[way].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    reference = next(iter(seconds.values()))
    rows = [
        Timing(way, median(s), median(r / own for r, own in zip(reference, s, strict=True)))
        for way, s in seconds.items()
    ]
    task = f"one {SIZE[0]}x{SIZE[1]} image, {NUM_GT} gts, {NUM_CLASSES} classes, {len(points)} points, one thread"
    return Bench(task, rounds, platform.processor() or platform.machine(), torch.__version__, rows)


def textbook(
    points: AnchorPoints,
    predictions: Predictions,
    targets: Targets,
    log_sum_exp: Callable = torch.logsumexp,
    eps: float = 0.1,
) -> Int[Tensor, " n"]:
    """Label assignment as it is usually written, in float32: every loss of every pair, then Sinkhorn on all of it.

    Returns the supplier of each point, the number of gts for the background.
    """
    m, n = len(targets), len(points)
    one_hot = F.one_hot(targets.labels, predictions.logits.shape[1]).float()
    shape = (m, n, -1)
    cls = sigmoid_focal_loss(predictions.logits[None].expand(shape), one_hot[:, None].expand(shape)).sum(dim=-1)
    background = sigmoid_focal_loss(predictions.logits, torch.zeros_like(predictions.logits)).sum(dim=-1)
    iou = box_iou(targets.boxes, predictions.boxes)
    mask = RadiusPrior()(points, targets.boxes)
    cost = cls - 1.5 * iou.clamp(min=1e-7).log() + 1e6 * ~mask
    cost = torch.cat((cost, background[None]))
    k = (iou * mask).topk(20, dim=1).values.sum(dim=1).int().clamp(min=1)
    supply = torch.cat((k, n - k.sum()[None])).float()
    u, v = torch.ones(m + 1), torch.ones(n)
    for _ in range(50):
        v = -eps * log_sum_exp((u[:, None] - cost) / eps, dim=0)
        u = eps * (supply.log() - log_sum_exp((v - cost) / eps, dim=1))
    plan = ((u[:, None] + v - cost) / eps).exp()
    return (plan / plan.amax(dim=1, keepdim=True)).argmax(dim=0)


def clamped(x: Float[Tensor, "m1 n"], dim: int) -> Float[Tensor, " k"]:
    """torch.logsumexp without the exponents below -80, for which PyTorch's CPU code is slow."""
    top = x.amax(dim=dim, keepdim=True)
    return (x - top).clamp_(min=-80.0).exp_().sum(dim=dim).log_() + top.squeeze(dim)
