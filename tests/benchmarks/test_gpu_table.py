"""The tables of a GPU and of a full training: they count what they say, and a failure costs a row, not the table."""

import json
import sys
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks is a folder of the repository, not of the package

from benchmarks import gpu, gpu_labels, scaling
from benchmarks.device import Failed, HostWaits, attempt, covered, cuda_synchronisations, idle_share, peak_bytes
from benchmarks.gpu_labels import labels_row
from benchmarks.reckoning import BATCH, LAUNCH, STEPS, Figure, Pace, memory, paces
from benchmarks.training import OtalabStep, Setting
from otalab.assign import ASSIGNERS
from otalab.lab.simulate import make_scene
from otalab.lab.timing import Table, Timing

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SMALL = Setting("tiny", (64, 64), 2, num_gt=2, classes=4)


def out_of_memory(*_):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def broken(*_):
    raise RuntimeError("two devices\nand a long story")


@pytest.fixture
def written(tmp_path):
    """`written(*flags)` runs benchmarks.gpu; returns its exit status and its file."""

    def run(*flags):
        path = tmp_path / "gpu.json"
        return gpu.main(["--device", "cpu", "--rounds", "1", "--json", str(path), *flags]), json.loads(path.read_text())

    return run


def test_the_whole_table_on_a_cpu(written, monkeypatch):
    some = gpu_labels.varied_scenes(quick=True)
    assert len(some) == 10
    monkeypatch.setattr(gpu_labels, "varied_scenes", lambda _: some[:2])
    monkeypatch.setattr(gpu, "settings_of", lambda *_: [SMALL])
    status, found = written("--quick")
    labels, step, waits, share = (table["rows"] for table in found["tables"])
    assert status == 0 and found["device"] and found["command"].endswith("--device cpu --rounds 1 --quick")
    assert [row["way"] for row in labels] == list(ASSIGNERS)
    assert all(row["differ"] == 0 for row in labels)
    assert {row["way"] for row in labels if row["dearer"] == 0} == {"ota", "ota-paper", "ota-official", "uot"}
    assert [row["way"] for row in step] == ["otalab", "torchvision"]
    assert step[1]["times_torchvision"] == 1 and all(row["images_a_second"] > 0 for row in step)
    assert all(row["waits"] == sum(row["by_kind"].values()) > 0 for row in waits)
    assert waits[0]["operations"] > waits[1]["operations"], "recorded labels save operations"
    assert [row["way"] for row in share] == list(gpu.SOLVERS)
    assert all(0 < row["assign_seconds"] < row["seconds"] for row in share)


def test_a_table_that_fails_leaves_the_others_and_memory_alone_is_no_fault(written, monkeypatch):
    good = Table("good", "", 1, [Timing("way", 1.0, 1.0, 1.0)])
    for fault, status in ((broken, 1), (out_of_memory, 0)):
        monkeypatch.setattr(gpu, "TABLES", {"first": lambda *_: good, "second": fault, "third": lambda *_: good})
        code, found = written()
        assert code == status
        assert [table["name"] for table in found["tables"]] == ["good", "second", "good"]
        assert found["tables"][1]["rows"][0]["why"] in ("RuntimeError: two devices", "out of memory")


def test_the_file_is_written_after_each_table(written, monkeypatch, tmp_path):
    seen = []

    def look(*_):
        seen.append(len(json.loads((tmp_path / "gpu.json").read_text())["tables"]))
        return Table("later", "", 1, [Timing("way", 1.0, 1.0, 1.0)])

    monkeypatch.setattr(gpu, "TABLES", {"first": broken, "second": look, "third": look})
    written()
    assert seen == [1, 2]


def test_a_batch_that_memory_cannot_hold_is_a_row_and_the_other_model_is_measured(monkeypatch):
    monkeypatch.setattr(gpu, "MODELS", {"otalab": OtalabStep, "torchvision": out_of_memory})
    ours, theirs = gpu.step_rows(SMALL, CPU, gpu.Timer(1))
    assert ours.way == "otalab" and ours.images_a_second > 0 and ours.times_torchvision is None
    assert theirs == Failed("torchvision, batch 2", "out of memory") and theirs.for_want_of_memory


def test_what_failed_holds_no_memory():
    held = []

    def measure():
        large = torch.ones(3)
        held.append(weakref.ref(large))
        out_of_memory()

    assert attempt("way", measure) == Failed("way", "out of memory")
    assert held[0]() is None


def test_another_label_is_counted_and_what_it_costs(monkeypatch):
    scene, honest = make_scene(3, (96, 128), 8), gpu_labels.assign_on

    def elsewhere(device, name, scene):
        found = honest(CPU, name, scene)
        if device.type == "cpu":
            return found
        labels = found.matched_gt.clone()
        labels[labels.argmax()] = -1
        return replace(found, matched_gt=labels)

    monkeypatch.setattr(gpu_labels, "assign_on", elsewhere)
    row = labels_row("ota", [scene, scene], torch.device("meta"))
    assert (row.differ, row.images) == (2, 2) and row.dearer != 0
    assert labels_row("fcos", [scene], torch.device("meta")).dearer is None


@pytest.mark.parametrize(
    ("call", "kinds"),
    [
        (lambda x: x.sum().item(), {"number read": 1}),
        (lambda x: x[x > 0], {"mask as index": 1}),
        (lambda x: x.nonzero(), {"nonzero": 1}),
        (lambda x: x.unique(), {"unique2": 1}),
        (lambda x: torch.repeat_interleave(x.long()), {"repeat_interleave": 1}),
        (lambda x: torch.repeat_interleave(x.long(), output_size=3), {}),
        (lambda x: x.to("meta"), {"copy between devices": 1}),
        (lambda x: x.to("meta", non_blocking=True), {}),
        (lambda x: (x + 1).where(x > 0, 0.0).sort(), {}),
    ],
)
def test_operations_at_which_the_host_waits_are_found(call, kinds):
    with HostWaits(CPU) as seen:
        call(torch.ones(3))
    assert dict(seen.waits) == kinds and seen.operations > 0
    with HostWaits(torch.device("cuda")) as seen:  # the host's own numbers make nobody wait
        call(torch.ones(3))
    assert seen.waits.total() == kinds.get("copy between devices", 0)


def test_what_only_a_gpu_can_tell_is_left_out_on_a_cpu():
    calls = []
    step = partial(calls.append, None)
    assert peak_bytes(step, CPU) is None and idle_share(step, CPU) is None and cuda_synchronisations(step, CPU) is None
    assert covered([(0.0, 2.0), (1.0, 3.0), (1.5, 2.5), (5.0, 6.0)]) == 4.0


def test_a_step_learns_the_labels_that_it_is_given():
    step = OtalabStep(SMALL, CPU)
    before = [p.detach().clone() for p in step.model.parameters()]
    labels, asked = step.assign(), []
    assert sum(int(a.positive.sum()) for a in labels) > 2 * SMALL.num_gt, "as in the middle of training"
    step.assign = lambda: asked.append(1) or labels
    step()
    assert asked == [1]
    assert any(not torch.equal(a, b) for a, b in zip(before, step.model.parameters(), strict=True))


def test_kept_bytes_counts_each_storage_once_and_no_weights():
    x, weight = torch.rand(10, requires_grad=True), torch.rand(10, requires_grad=True)
    assert scaling.kept_bytes(lambda: x.exp(), []) == 40
    assert scaling.kept_bytes(lambda: (x * weight, weight.exp() * x), []) == 120
    assert scaling.kept_bytes(lambda: (x * weight, weight.exp() * x), [x, weight]) == 40


def test_arithmetic_grows_with_the_pixels_and_autocast_keeps_the_bytes_that_cuda_would():
    small, large = (
        {figure.key: figure.value for figure in scaling.network_figures(Setting("resnet18", size))}
        for size in ((128, 128), (256, 256))
    )
    assert large["flops"] == pytest.approx(4 * small["flops"], rel=1e-3)
    assert 2 < small["flops"] / small["forward"] < 3, "frozen layers need no gradient"
    one, two = (scaling.kept_by_network(Setting("resnet18", (128, 128), batch), amp=True) for batch in (1, 2))
    assert one < two < 2 * one, "weights in half precision are kept once"


def test_the_hosts_part_of_assignment_does_not_grow_with_the_batch():
    rows = scaling.dispatched_rows(replace(SMALL, backbone="resnet18"), (1, 3))
    waits = {(row.way, row.images): row.waits for row in rows}
    for way in ("its assignment, augmenting-path", "its assignment, sinkhorn"):
        assert 0 < waits[way, 1] == waits[way, 3] <= 2
    assert waits["step", 1] >= waits["its assignment, augmenting-path", 1]


def test_hours_follow_from_the_rate_or_from_a_host_that_is_slower():
    measured = {"flops": 1500.0, "solver": 6.0, "operations 16": 4000, "operations 2": 3000}
    slow, *_, fast = paces(measured)
    assert slow.step_seconds == pytest.approx(16 * 1.5 / 15) and slow.hours == pytest.approx(STEPS * 1.6 / 3600)
    assert slow.solver_percent == pytest.approx(100 * 0.006 / 1.6) and slow.loaders is None
    assert fast.hours_of_eight == pytest.approx(STEPS * 3000 * LAUNCH / 0.9 / 3600), "the host is slower than 2 images"
    (slow, *_) = paces(measured | {"decode": 2.0, "photo pixels": 640 * 480 / 4, "transform": 12.0})
    assert slow.loaders == pytest.approx(BATCH / 1.6 * 0.020)
    kinds = {"weights": 100, "gradients": 90, "momentum": 90, "kept once float32": 20, "kept float32": 900}
    assert memory(kinds | {"kept by losses": 100}, 2, "float32") == pytest.approx(0.2 + 0.18 + 0.02 + 2 + 2)


def test_the_page_about_a_full_training_has_the_recorded_numbers():
    page = (ROOT / "docs" / "scaling.md").read_text()
    rows = [
        row for table in json.loads((ROOT / "benchmarks/scaling.json").read_text())["tables"] for row in table["rows"]
    ]
    for row in rows:
        if "key" in row:
            figure = Figure(**row)
            cells = f"{figure.what} | {figure.text} {figure.unit}".rstrip()
        elif "tflops" in row:
            p = Pace(**row)
            numbers = f"{p.hours:.1f} | {p.hours_of_eight:.1f} | {p.step_seconds:.2f} s | {p.solver_percent:.2f} %"
            cells = f"{p.tflops} | {numbers} | {p.images_a_second:.1f} | {p.loaders:.1f}"
        else:
            cells = f"{row['way']} | {row['images']} | {row['operations']:,} | {row['waits']}"
        assert f"| {cells} |" in page
    assert len(page.splitlines()) <= 120
