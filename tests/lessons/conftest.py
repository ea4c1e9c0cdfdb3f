"""What the tests of the lessons share."""

import atexit
import os
import runpy
import sys
import time
from functools import cache
from pathlib import Path

import pytest
from processes import PROCESSES

SOLUTIONS = Path(__file__).parents[2] / "notebooks" / "solutions"


@pytest.fixture(scope="session")
def solution():
    """`solution("09")`: the names of that lesson's solution, which runs once."""
    return cache(lambda number: runpy.run_path(str(SOLUTIONS / f"{number}.py")))


class ForkedKernel:
    """A kernel as jupyter_client starts it, with the methods of a Popen, but forked: PyTorch is imported already."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], cwd: str, env: dict[str, str], **_) -> None:
        self.process = PROCESSES.Process(target=run_kernel, args=(command[3:], cwd, env))
        self.process.start()
        self.pid = self.process.pid
        while self.process.is_alive() and os.getpgid(self.pid) != self.pid:  # signals go to its group, not to ours
            time.sleep(0.001)
        self.kill, self.terminate = self.process.kill, self.process.terminate

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode


def run_kernel(arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    """An IPython kernel that has to import otalab anew, in the order of the lesson."""
    os.setsid()
    os.chdir(cwd)
    os.environ.update(env)
    for name in [name for name in sys.modules if name.partition(".")[0] == "otalab"]:
        del sys.modules[name]
    from ipykernel.kernelapp import launch_new_instance

    try:
        launch_new_instance(argv=arguments)
    finally:
        atexit._run_exitfuncs()  # which a forked process leaves out: folders of a lesson go


@pytest.fixture
def forked_kernels(monkeypatch):
    """Notebooks are executed in forked kernels."""
    monkeypatch.setattr("jupyter_client.provisioning.local_provisioner.launch_kernel", ForkedKernel)
