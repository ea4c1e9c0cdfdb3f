"""What the benchmark commands share: flags, a description of the machine, and a JSON file with the results."""

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from otalab.cli.flag_parts import at_most
from otalab.files import write_json
from otalab.lab.timing import Table, Timer

FOLDER = Path(__file__).parent
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def run(
    module: str, description: str, tables: Callable[[Timer, bool], list[Table]], argv: Sequence[str] | None = None
) -> int:
    """Measure, print the tables, and write benchmarks/MODULE.json."""
    flags = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=description)
    flags.add_argument("--rounds", type=at_most(1000), default=7, help="interleaved rounds (default: %(default)s)")
    flags.add_argument("--quick", action="store_true", help="small scenes, to see that the command works")
    flags.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu where others use the machine too (default: %(default)s)"
    )
    flags.add_argument("--json", type=Path, default=FOLDER / f"{module}.json", help="(default: %(default)s)")
    given = flags.parse_args(argv)
    found = tables(Timer(given.rounds, clock=CLOCKS[given.clock]), given.quick)
    asked = f"--rounds {given.rounds} --clock {given.clock}{' --quick' if given.quick else ''}"
    write_json(given.json, as_json(f"python -m benchmarks.{module} {asked}", given.clock, found))
    return 0


def shown(table: Table) -> Table:
    """Print a table at once, and return it."""
    print(table, end="\n\n", flush=True)
    return table


def as_json(command: str, clock: str, tables: list[Table]) -> dict:
    """The tables, and the command, machine and versions with which they were measured."""
    return {
        "command": command,
        "machine": f"{cpu()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": 1,
        "clock": clock,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "tables": [asdict(table) for table in tables],
    }


def cpu() -> str:
    """The name of the processor, or at least its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
