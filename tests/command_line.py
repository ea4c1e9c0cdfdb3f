"""Running the command line, and reading what it wrote."""

import json
import subprocess
import sys

import pytest

from otalab.cli.main import main


def run(*arguments, **options) -> subprocess.CompletedProcess:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "otalab", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def otalab(*arguments) -> int:
    """The command line in this process; the exit status."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse's way
        return stop.code


def printing(text: str) -> list[str]:
    """A process whose command `bench` only prints the value of a Python expression."""
    command = f"sys.modules['otalab.cli.bench'] = types.SimpleNamespace(run=lambda a: print({text}))"
    return [sys.executable, "-c", f"import sys, types, otalab.cli.main as c; {command}; sys.exit(c.main(['bench']))"]


def read(path) -> dict:
    """JSON, without literals that JSON does not know."""
    return json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} in {path}"))
