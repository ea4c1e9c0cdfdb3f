"""What the tests share: one thread, a tiny shapes set, and a detector for it."""

import json
import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items):
    """Files with slow tests come first: begun last, they would end the run on one processor while the others idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Sums come out bit for bit alike, and tests do not compete with each other."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def pages():
    """Runs of seconds do without report.html, which takes as long; `with pages():` and other processes make it."""
    from otalab.detect.run_evaluation import RunEvaluator

    report = RunEvaluator.report

    @contextmanager
    def drawn():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunEvaluator, "report", report)
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunEvaluator, "report", lambda self: None)
        yield drawn


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """16 training and 8 validation scenes of 64 px; not to be written into."""
    from otalab.data import ShapesConfig, make_shapes

    folder = tmp_path_factory.mktemp("data") / "shapes"
    return make_shapes(folder, 16, 8, ShapesConfig(image_size=64, max_size=40.0), progress=False)


@pytest.fixture
def own_shapes(shapes, tmp_path) -> Path:
    """A copy of the shapes set that a test may damage."""
    return Path(shutil.copytree(shapes, tmp_path / "own_shapes"))


@pytest.fixture
def edit_annotations(own_shapes):
    """`edit_annotations(change, split="train")` calls `change` on annotations of the copy and returns its folder."""

    def edit(change, split: str = "train") -> Path:
        path = own_shapes / split / "instances.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return own_shapes

    return edit


@pytest.fixture(scope="session")
def full_disk():
    """`with full_disk():` lets no file grow beyond some 1000 bytes."""

    @contextmanager
    def limited(room: int = 1024):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory) -> Path:
    """The model.safetensors of an untrained detector of the shapes that detects something everywhere."""
    from detect.models import eager_detector

    from otalab.data import CLASS_NAMES
    from otalab.detect.checkpoint import save_model

    path = tmp_path_factory.mktemp("detector") / "model.safetensors"
    settings = {"backbone": "tiny", "num_classes": len(CLASS_NAMES), "assigner": "ota"}
    save_model(path, eager_detector(num_classes=len(CLASS_NAMES)), settings, list(CLASS_NAMES), [1, 2, 3, 4, 5, 6])
    return path.parent


@pytest.fixture
def refused(capsys):
    """`refused(arguments)` runs a command that must fail for its input; returns what it says."""

    from command_line import otalab

    def check(*arguments) -> str:
        assert otalab(*arguments) == 2
        out, err = capsys.readouterr()
        assert err.startswith("otalab: error: ") and err.count("\n") == 1 and err.endswith("\n"), err
        assert out == ""
        return err

    return check


@pytest.fixture
def train_flags(shapes, tmp_path):
    """Arguments of a training run of a second, with changes."""

    def flags(**changes) -> list:
        values = {"data": shapes, "out": tmp_path / "run", "epochs": 1, "batch-size": 8, "device": "cpu"} | changes
        return ["train", *(word for name, value in values.items() for word in (f"--{name}", value))]

    return flags


@pytest.fixture(scope="session")
def kills():
    """What tests of killed processes do: OTALAB_KILLS=20x1x1 is 20 rounds of a kill each, and one at every change."""
    from killed import Kills

    return Kills(*map(int, os.environ.get("OTALAB_KILLS", "1x2x23").split("x")))
