"""Training runs of seconds."""

from dataclasses import replace

import pytest


@pytest.fixture
def setup(shapes, tmp_path):
    """The settings of a run of seconds, with changes."""
    from otalab.detect.config import TrainConfig

    from .runs import EPOCHS

    base = TrainConfig(str(shapes), str(tmp_path / "run"), epochs=EPOCHS, batch_size=4, warmup=2, device="cpu")
    return lambda **changes: replace(base, **changes)


@pytest.fixture(scope="session")
def finished(shapes, tmp_path_factory, pages):
    """The folder of a run of `setup` that was never stopped, with its page; not to be written into."""
    from otalab.detect.config import TrainConfig
    from otalab.detect.train import train

    from .runs import EPOCHS

    out = tmp_path_factory.mktemp("finished") / "run"
    with pages():
        train(TrainConfig(str(shapes), str(out), epochs=EPOCHS, batch_size=4, warmup=2, device="cpu"), progress=False)
    return out
