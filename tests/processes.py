"""Processes of the tests that need several, or one to kill: forked by a server that has imported everything.

A process that Python starts anew would spend seconds on importing torch.
"""

import multiprocessing
from collections.abc import Callable

PROCESSES = multiprocessing.get_context("forkserver")
OURS = ["otalab.cli.main", "otalab.detect.train", "otalab.lab.study", "otalab.viz.run_report"]
PROCESSES.set_forkserver_preload([*OURS, "faster_coco_eval", "pytest"])


def in_processes(count: int, run: Callable, *arguments) -> None:
    """`run(rank, *arguments)` in so many processes at once, in one thread each; raises what one of them raises."""
    from torch.multiprocessing import start_processes

    start_processes(in_one_thread, args=(run, *arguments), nprocs=count, start_method="forkserver")


def in_one_thread(rank: int, run: Callable, *arguments) -> None:
    import torch

    torch.set_num_threads(1)
    run(rank, *arguments)
