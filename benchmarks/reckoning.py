"""What a full training takes, computed from the measurements of `benchmarks.scaling` and the assumptions below."""

from dataclasses import dataclass

from otalab.lab.timing import TableRow, column

STEPS, BATCH = 90_000, 16  # the paper's 1x schedule
COCO_IMAGES = 117_266  # images of train2017 with at least one box
COCO_PIXELS = 640 * 480  # pixels of an average photo
RATES = (15, 30, 60, 120)  # TFLOP/s achieved by convolutions, norms and losses together: the range of current GPUs
GPUS, EFFICIENCY = 8, 0.9  # share of eight GPUs' speed left after exchanging gradients and waiting for the slowest
LAUNCH = 10e-6  # seconds that the host takes per operation, Python included
UPLOAD = 6e9  # bytes per second to the device from memory that is not pinned
BESIDE_TENSORS = 2e9  # bytes: CUDA's context, cuDNN's workspaces, what the allocator wastes


@dataclass(frozen=True)
class Figure(TableRow):
    """A number, its unit and its description; other computations refer to it by `key`."""

    key: str
    what: str = column("", "<78")
    value: float = column("value", ">12")
    unit: str

    @property
    def text(self) -> str:
        """The value as printed, without its unit."""
        digits = 0 if self.value >= 1000 or self.value == int(self.value) else 1 if self.value >= 10 else 2
        return f"{self.value:,.{digits}f}"

    def __str__(self) -> str:
        return f"{self.what:<78}{self.text:>12} {self.unit}"


@dataclass(frozen=True)
class Pace(TableRow):
    """A run at one rate of arithmetic: hours on one GPU and on eight, and the host's work for one GPU.

    A step takes as long as the device or the host, whichever is slower.

    solver_percent  percentage of a step that the exact solver takes on the CPU
    loaders         number of processes that keep the GPU busy; None if loading was not measured
    """

    tflops: int = column("TFLOP/s achieved", "<18")
    hours: float = column("hours, 1 GPU", ">14", ".1f")
    hours_of_eight: float = column("8 GPUs", ">9", ".1f")
    step_seconds: float = column("step s", ">9", ".2f")
    solver_percent: float = column("solver", ">10", ".2f", " %")
    images_a_second: float = column("images/s", ">10", ".1f")
    loaders: float | None = column("loaders", ">9", ".1f")


def paces(measured: dict[str, float]) -> list[Pace]:
    """One row for each of RATES."""
    rows, each = [], BATCH // GPUS
    for rate in RATES:
        step = max(device_seconds(measured, BATCH, rate), host_seconds(measured, BATCH))
        shared = max(device_seconds(measured, each, rate), host_seconds(measured, each)) / EFFICIENCY
        rows.append(
            Pace(
                tflops=rate,
                hours=STEPS * step / 3600,
                hours_of_eight=STEPS * shared / 3600,
                step_seconds=step,
                solver_percent=100 * measured["solver"] / 1e3 / step,
                images_a_second=BATCH / step,
                loaders=BATCH / step * loading(measured) if "decode" in measured else None,
            )
        )
    return rows


def device_seconds(measured: dict[str, float], images: int, rate: float) -> float:
    """Seconds that the device takes for the arithmetic of a step; `rate` in TFLOP/s."""
    return images * measured["flops"] / (rate * 1e3)


def host_seconds(measured: dict[str, float], images: int) -> float:
    """Seconds that the host takes to dispatch the operations of a step."""
    return measured[f"operations {images}"] * LAUNCH


def loading(measured: dict[str, float]) -> float:
    """Seconds that a core takes to load a COCO photo.

    Decoding scales with the pixels of the photo; the rest depends on the resized image alone.
    """
    decode = measured["decode"] * COCO_PIXELS / measured["photo pixels"]
    return (decode + measured["transform"]) / 1e3


def others(measured: dict[str, float]) -> list[Figure]:
    """The other figures: epochs, arithmetic, memory, the host's part of a step, and the data."""
    each = BATCH // GPUS
    rows = [
        Figure("epochs", f"passes over COCO's images: {STEPS:,} steps of {BATCH}", STEPS * BATCH / COCO_IMAGES, ""),
        Figure("exaflop", "arithmetic of the run", STEPS * BATCH * measured["flops"] / 1e9, "EFLOP"),
    ]
    for images in (BATCH, each):
        for kind in ("float32", "bfloat16"):
            needed = memory(measured, images, kind)
            rows.append(
                Figure(f"memory {kind} {images}", f"memory of a GPU, {images} images, {kind}, at least", needed, "GB")
            )
    for images in (BATCH, each):
        host, device = host_seconds(measured, images), device_seconds(measured, images, RATES[-1])
        rows.append(Figure(f"host {images}", f"the host's part of a step of {images} images", 1e3 * host, "ms"))
        what = f"the device's part of a step of {images} images at {RATES[-1]} TFLOP/s"
        rows.append(Figure(f"device {images}", what, 1e3 * device, "ms"))
    upload = measured["batch"] * 1e6 / UPLOAD * 1e3
    rows.append(Figure("upload", f"a float32 batch of {BATCH} to the device", upload, "ms"))
    held = COCO_IMAGES * 3 * COCO_PIXELS / 1e9
    rows.append(Figure("held", "COCO's photos in memory, decoded (--workers 0)", held, "GB"))
    return rows


def memory(measured: dict[str, float], images: int, kind: str) -> float:
    """GB on a GPU: weights, their average, gradients, momentum, what is kept for backward, and BESIDE_TENSORS."""
    state = 2 * measured["weights"] + measured["gradients"] + measured["momentum"]
    kept = measured[f"kept {kind}"] + measured["kept by losses"]
    return (state + measured[f"kept once {kind}"] + images * kept) / 1e3 + BESIDE_TENSORS / 1e9
