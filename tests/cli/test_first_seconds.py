"""What needs no tensor imports no library of tensors: help, the version and a wrong flag come at once."""

import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "numpy", "scipy", "ot", "matplotlib", "pandas", "PIL")


def loaded(program: str) -> list[str]:
    """Which of the heavy libraries are imported by a program in a fresh interpreter."""
    report = f"import sys\ntry:\n    {program}\nfinally:\n    sys.stderr.write(','.join(sorted(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True)
    modules = said.stderr.splitlines()[-1].split(",")
    assert "otalab" in modules, said.stderr
    return [name for name in HEAVY if name in modules]


@pytest.mark.parametrize(
    "arguments",
    ["--help", "--version", "train --help", "verify --help", "data shapes --help", "train --nope", "train --epochs 0"],
)
def test_help_the_version_and_a_wrong_flag_import_nothing_heavy(arguments):
    assert loaded(f"import otalab.cli.main; otalab.cli.main.main({arguments.split()})") == []


@pytest.mark.parametrize("program", ["import otalab", "import otalab; dir(otalab)", "from otalab import InputError"])
def test_importing_otalab_imports_nothing_heavy(program):
    assert loaded(program) == []


def test_a_library_that_is_imported_would_be_seen():
    assert loaded("import otalab, numpy") == ["numpy"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("10000", None)),
        ({"GOMP_SPINCOUNT": "7"}, ("7", None)),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, (None, "ACTIVE")),
    ],
)
def test_threads_limit_openmp_spin_for_each_other_unless_the_user_says_how(given, expected):
    """The environment is set before torch, which reads it once, is imported."""
    program = (
        "import os, sys, types, otalab.cli.main as c\n"
        "said = lambda a: print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'), *sys.modules)\n"
        "sys.modules['otalab.cli.bench'] = types.SimpleNamespace(run=said)\n"
        "sys.exit(c.main(['bench']))"
    )
    rest = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=rest | given)
    spins, policy, *modules = said.stdout.split()
    assert (spins, policy) == tuple(map(str, expected)) and "torch" not in modules
