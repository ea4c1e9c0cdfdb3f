"""SIGTERM, by which clusters end a job: the state is saved, and the run goes on from that very step."""

import os
import signal
import threading
from pathlib import Path

import pytest

from otalab.detect import train as train_module
from otalab.detect.checkpoint import load_state
from otalab.detect.train import train

from .runs import metrics_of, same_weights, steps_of


@pytest.mark.parametrize("at", [2, 8])
def test_sigterm_saves_the_state_and_ends_with_its_status(at, setup, finished, monkeypatch, caplog):
    """Also when it comes at the end of an epoch, where the run is evaluated afterwards."""
    config = setup(eval_every=2)
    update, before = train_module.update_ema, signal.getsignal(signal.SIGTERM)

    def told_to_stop(average, model, decay, step):
        update(average, model, decay, step)
        if step + 1 == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(train_module, "update_ema", told_to_stop)
        train(config, progress=False)
    assert ended.value.code == 143 and "go on with --resume" in caplog.text
    stopped = load_state(Path(config.out) / "checkpoint.pt")["steps_done"]
    assert stopped == at + 1 and steps_of(config.out) == list(range(1, at + 2))  # it heard of it in the next step
    assert signal.getsignal(signal.SIGTERM) == before
    train(config, resume=True, progress=False)
    assert same_weights(config.out, finished) and metrics_of(config.out) == metrics_of(finished)


def test_a_run_in_another_thread_leaves_signals_alone(setup):
    before, done = signal.getsignal(signal.SIGTERM), []
    thread = threading.Thread(target=lambda: done.append(train(setup(epochs=1), progress=False)))
    thread.start()
    thread.join()
    assert "AP" in done[0] and signal.getsignal(signal.SIGTERM) == before
