"""`otalab bench`: time label assignment against the textbook way."""

import argparse
from dataclasses import asdict

from otalab.files import write_json
from otalab.lab import timing


def run(a: argparse.Namespace) -> None:
    result = timing.bench_assign(a.rounds)
    print(result)
    if a.json:
        write_json(a.json, asdict(result))
