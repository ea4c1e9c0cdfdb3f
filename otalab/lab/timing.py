"""Time of label assignment compared with textbook code: two baselines, an interleaving timer, and tables."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import box_iou, sigmoid_focal_loss

from otalab.assign import AnchorPoints, Predictions, RadiusPrior, Targets, build_assigner
from otalab.lab.simulate import Scene, make_scene
from otalab.transport.sinkhorn import log_sum_exp

SIZE = (800, 1344)
ENOUGH_SECONDS, MOST_RUNS = 0.03, 9  # a quick way is repeated within its turn up to these limits


def column(title: str, width: str, form: str = "", unit: str = ""):
    """Make a field of a `TableRow` that is printed: its title, its alignment and width with the unit, its format."""

    def cell(value) -> str:
        text = "" if value is None else f"{value:{form}}{unit}"
        return f"{text:{width}}"

    return field(metadata={"head": f"{title:{width}}", "cell": cell})


class TableRow:
    """A row of a `Table`: a dataclass whose printed fields are made by `column`. None is left blank."""

    @classmethod
    def head(cls) -> str:
        """The titles of the columns."""
        return "".join(f.metadata["head"] for f in fields(cls) if f.metadata)

    def __str__(self) -> str:
        return "".join(f.metadata["cell"](getattr(self, f.name)) for f in fields(self) if f.metadata)


@dataclass(frozen=True)
class Timing(TableRow):
    """Median seconds of one way, and its speed-ups over the textbook without and with clamped exponents.

    A speed-up is the median over rounds of the ratio within each round.
    """

    way: str = column("way", "<58")
    seconds: float = column("seconds", ">10", ".5f")
    speed_up: float = column("textbook", ">11", ".1f", "x")
    clamped_speed_up: float = column("clamped", ">11", ".1f", "x")


@dataclass(frozen=True)
class Table:
    """A table of measurements: what was measured, in how many rounds (0 for what is counted), and one row per way."""

    name: str
    task: str
    rounds: int
    rows: list

    def __str__(self) -> str:
        title = f"{self.name}: {self.task}" + f"; {self.rounds} interleaved rounds" * (self.rounds > 0)
        return "\n".join([title, self.rows[0].head(), *map(str, self.rows)])


@dataclass(frozen=True)
class Timer:
    """Times ways in turn on one thread, so that other load on the machine affects all of them.

    rounds  how often each way is timed; a first call of each way warms up and is not timed
    budget  a way whose times add up to this many seconds skips the remaining rounds
    clock   a function that returns seconds: `time.perf_counter`, or `time.process_time` on a machine in shared use
    """

    rounds: int = 7
    budget: float = float("inf")
    clock: Callable[[], float] = time.perf_counter

    def at_most(self, rounds: int) -> "Timer":
        """The same timer with at most that many rounds."""
        return replace(self, rounds=min(rounds, self.rounds))

    def __call__(self, ways: dict[str, Callable]) -> dict[str, list[float]]:
        """Seconds of each way in each round. Every other round runs in reverse order, so that drift favours no way."""
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        with limit_threads(1):
            for run in ways.values():
                run()
            for round_ in range(self.rounds):
                for way in list(ways)[:: -1 if round_ % 2 else 1]:
                    if sum(seconds[way]) < self.budget:
                        seconds[way].append(self.seconds_of(ways[way]))
        return seconds

    def seconds_of(self, run: Callable) -> float:
        """Seconds of one call; for a quick call, the median of several."""
        taken: list[float] = []
        while not taken or (sum(taken) < ENOUGH_SECONDS and len(taken) < MOST_RUNS):
            start = self.clock()
            run()
            taken.append(self.clock() - start)
        return median(taken)


def bench_assign(rounds: int = 7) -> Table:
    """The table of `otalab bench`: one image of SIZE with 20 gts, assigned by each way in turn."""
    return assign_table("one image", make_scene(num_gt=20, size=SIZE), Timer(rounds))


def assign_table(name: str, scene: Scene, timer: Timer, others: Sequence[str] = ("ota-official",)) -> Table:
    """Assign one image by each way in turn: two textbook ways, the assigners in `others`, and `ota` in the last row."""
    ways: dict[str, Callable] = {
        "textbook: (m, n, C) losses, 50 full Sinkhorn iterations": lambda: textbook(*scene),
        "textbook, exponents clamped at -80": lambda: textbook(*scene, log_sum_exp=log_sum_exp),
        **{name: partial(build_assigner(name), *scene) for name in others},
        "ota (exact)": partial(build_assigner("ota"), *scene),
    }
    return Table(name, f"one image, {scene}", timer.rounds, timings(timer(ways)))


def timings(seconds: dict[str, list[float]]) -> list[Timing]:
    """One row per way. The first must be the textbook, and the second the textbook with clamped exponents."""
    textbook, clamped = list(seconds.values())[:2]
    return [Timing(way, median(s), paired(textbook, s), paired(clamped, s)) for way, s in seconds.items()]


def paired(reference: list[float], own: list[float]) -> float:
    """The median of the ratios reference / own over the rounds that both ways have."""
    return median(r / o for r, o in zip(reference, own, strict=False))


@contextmanager
def limit_threads(number: int) -> Iterator[None]:
    """Run PyTorch on this number of threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def textbook(
    points: AnchorPoints, predictions: Predictions, targets: Targets, log_sum_exp: Callable = torch.logsumexp
) -> Int[Tensor, " n"]:
    """Label assignment as it is usually written, in float32: the losses of all pairs, then Sinkhorn on the full matrix.

    With `transport.sinkhorn.log_sum_exp`, exponents are clamped at -80, below which PyTorch's CPU code is slow. Returns
    the supplier of each point (n,): the index of a gt, or m, the number of gts, for the background.
    """
    return textbook_sinkhorn(*textbook_cost(points, predictions, targets), log_sum_exp)


def textbook_cost(
    points: AnchorPoints, predictions: Predictions, targets: Targets
) -> tuple[Float[Tensor, "m1 n"], Float[Tensor, " m1"]]:
    """Cost and supply, the background last, from all (m, n, C) focal losses; 1e6 is added outside the prior."""
    m, (n, classes) = len(targets), predictions.logits.shape
    wanted = F.one_hot(targets.labels, classes).float()[:, None].expand(m, n, classes)
    cls = sigmoid_focal_loss(predictions.logits.expand(m, n, classes), wanted).sum(dim=-1)
    background = sigmoid_focal_loss(predictions.logits, torch.zeros_like(predictions.logits)).sum(dim=-1)
    iou = box_iou(targets.boxes, predictions.boxes)
    mask = RadiusPrior()(points, targets.boxes)
    cost = torch.cat((cls - 1.5 * iou.clamp(min=1e-7).log() + 1e6 * ~mask, background[None]))
    k = (iou * mask).topk(20, dim=1).values.sum(dim=1).int().clamp(min=1)
    return cost, torch.cat((k, n - k.sum()[None])).float()


def textbook_sinkhorn(
    cost: Float[Tensor, "m1 n"],
    supply: Float[Tensor, " m1"],
    log_sum_exp: Callable = torch.logsumexp,
) -> Int[Tensor, " n"]:
    """50 log-domain iterations on the full matrix, at eps 0.1; returns the label of each point, see `decode`."""
    eps, u, v = 0.1, torch.ones_like(supply), torch.ones_like(cost[0])
    for _ in range(50):
        v = -eps * log_sum_exp((u[:, None] - cost) / eps, dim=0)
        u = eps * (supply.log() - log_sum_exp((v - cost) / eps, dim=1))
    return decode(((u[:, None] + v - cost) / eps).exp())


def decode(plan: Float[Tensor, "m1 n"]) -> Int[Tensor, " n"]:
    """The labels of a plan whose rows are rescaled to a maximum of 1: each point takes the row of its largest entry."""
    return (plan / plan.amax(dim=1, keepdim=True)).argmax(dim=0)
