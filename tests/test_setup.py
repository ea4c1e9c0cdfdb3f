import importlib.metadata
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import otalab

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements() -> dict[str, str]:
    """Lower bound of each direct dependency, those of the extras included."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]
    return dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", line).groups() for line in lines)


def environment_lines() -> list[str]:
    """The dependency lines of environment.yml."""
    text = (ROOT / "environment.yml").read_text().split("\ndependencies:\n")[1]
    return [line for line in text.splitlines() if line.strip().startswith("-") and line.strip() != "- pip:"]


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"\d+(\.\d+)*", text)[0].split("."))


def test_conda_and_pip_install_the_same_packages_of_the_same_least_versions():
    found = {}
    for line in environment_lines():
        name, bound = re.match(r"\s*- ([\w-]+)(?: >=([\d.]+))?", line).groups()
        found[name] = bound
    assert found.pop("python") == PROJECT["requires-python"].removeprefix(">=")
    assert "pip" in found and found.pop("pip") is None
    assert found == {CONDA_NAMES.get(name, name): bound for name, bound in requirements().items()}


def test_every_line_of_the_environment_says_who_needs_it():
    lines = environment_lines()
    assert len(lines) > 15
    for line in lines:
        assert re.search(r"\S +# \S+", line) or line.strip().startswith("- python "), line


def test_the_constraints_pin_every_direct_dependency_at_a_version_that_is_allowed():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert set(pins) == set(requirements())
    for name, least in requirements().items():
        assert version(pins[name]) >= version(least), name


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0" and PROJECT["license-files"] == ["LICENSE"]
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_the_console_script_leads_to_the_command_line():
    (script,) = entry_points(group="console_scripts", name="otalab")
    assert script.load() is importlib.import_module("otalab.cli.main").main
    assert PROJECT["scripts"] == {"otalab": script.value}


def test_the_version_stands_in_one_place_and_is_told_alike():
    """pyproject.toml takes it from the package."""
    assert PROJECT["dynamic"] == ["version"] and otalab.__version__ == importlib.metadata.version("otalab")
    assert f"\nversion: {otalab.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {otalab.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_contributing_names_files_and_modules_that_there_are():
    """Paths in backticks, with the names of ATSS and of lesson 04 put in, and what `make` and `python -m` run."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`([\w.]+/[\w./]+)`", text)
    assert len(paths) >= 6
    for path in paths:
        known = path.replace("NAME", "atss").replace("NN_title", "04_which_point").replace("NN", "04")
        assert (ROOT / known).exists(), path
    modules = re.findall(r"python -m ([\w.]+)", text)
    assert len(modules) >= 4
    for module in modules:
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", text)) <= targets


def test_what_runs_before_a_commit_and_after_a_push_is_what_the_makefile_has():
    """The hooks are `make lint`'s, and the workflow leaves everything to .ci/run."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    lint = re.search(r"^lint:.*\n\t(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    for command in re.findall(r"entry: (ruff \w+)", hooks):
        assert command in lint
    assert len(re.findall(r"entry: ruff", hooks)) == 2
    assert "- run: .ci/run\n" in (ROOT / ".github" / "workflows" / "test.yml").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize(
    "name", sorted(m.name for m in pkgutil.walk_packages(otalab.__path__, "otalab.") if not m.name.endswith("__main__"))
)
def test_a_module_can_be_imported(name):
    package, _, framework = name.rpartition(".")
    if package == "otalab.adapters" and importlib.util.find_spec(framework) is None and framework != "matching":
        pytest.skip(f"{framework} is not installed")
    importlib.import_module(name)


def test_importing_asks_nothing_of_the_network_and_changes_nothing_global():
    """In a process of its own, in which every socket is an error."""
    program = """
import random, socket, sys
import numpy, torch

def refuse(*args, **kwargs):
    raise AssertionError("a socket")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
state = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype(), random.getstate()
import otalab, otalab.assign, otalab.cli.main, otalab.data, otalab.detect.train, otalab.transport, otalab.lab.verify
assert torch.equal(state[0], torch.get_rng_state()) and state[3] == random.getstate()
assert state[1:3] == (torch.get_num_threads(), torch.get_default_dtype())
assert not torch.distributed.is_initialized()
assert not torch.cuda.is_initialized()
assert "matplotlib.pyplot" not in sys.modules, "drawing is loaded by those who draw"
"""
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr


def test_a_text_of_the_repository_is_no_longer_than_one_sitting():
    long = {path.name: n for path in (ROOT / "otalab").rglob("*.py") if (n := path.read_text().count("\n")) > 300}
    assert long == {}


def test_the_table_of_strange_files_names_tests_that_there_are():
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / "docs" / "robustness.md").read_text())
    assert len(named) > 40
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []
