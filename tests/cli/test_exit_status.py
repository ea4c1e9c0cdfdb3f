"""Whatever is raised ends in one line and a status that says whose fault it is."""

import re
import subprocess

import pytest
import torch
from command_line import otalab, printing

from otalab.errors import InputError, first_line, one_line


@pytest.fixture
def raising(monkeypatch, capsys):
    """`raising(error)` runs a command whose work raises it; returns the status and what it said."""

    def run(error: BaseException) -> tuple[int, str]:
        def work(rounds):
            raise error

        monkeypatch.setattr("otalab.lab.timing.bench_assign", work)
        return otalab("bench"), capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape '[3]' is invalid\n  in line 2"),
        ValueError("a bug"),
        OverflowError("int too large to convert to float"),
        AssertionError(),
        RecursionError("maximum recursion depth exceeded"),
        KeyError("cost"),
        ZeroDivisionError("division by zero"),
    ],
)
def test_a_fault_of_the_program_is_one_line_and_status_3(error, raising, monkeypatch):
    monkeypatch.delenv("OTALAB_TRACEBACK", raising=False)
    status, said = raising(error)
    line = f"otalab: internal error: {type(error).__name__}: {first_line(error)}; set OTALAB_TRACEBACK=1 to see where\n"
    assert (status, said) == (3, line)


def test_the_traceback_is_shown_to_who_asks_for_it(raising, monkeypatch):
    monkeypatch.setenv("OTALAB_TRACEBACK", "1")
    status, said = raising(ValueError("a bug"))
    assert status == 3 and said.startswith("Traceback") and ", in work\n" in said
    assert said.splitlines()[-1].startswith("otalab: internal error: ValueError: a bug")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8.00 GiB for an array"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 80 bytes."),
    ],
)
def test_memory_that_is_not_there_is_input_to_mend(error, raising):
    status, said = raising(error)
    assert status == 2 and said.count("\n") == 1
    assert said.startswith(f"otalab: error: out of memory ({first_line(error)}); try a smaller --batch-size, --size")


def test_torchs_own_failed_allocation_is_known_as_one(raising):
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    status, said = raising(caught.value)
    assert status == 2 and said.startswith("otalab: error: out of memory (")


def test_a_message_with_line_breaks_stays_one_line(raising, capsys):
    assert raising(InputError("no image a\nb\x1b[2J.png")) == (2, "otalab: error: no image a\\nb\\x1b[2J.png\n")
    assert otalab("train", "--backbone", "a\nb") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_only_what_cannot_be_printed_is_escaped():
    assert one_line("naïve 猫 $x$ '\"\\") == "naïve 猫 $x$ '\"\\"
    assert one_line("a\tb\r\n\u2028\udcff") == "a\\tb\\r\\n\\u2028\\udcff"


def test_an_exception_of_a_loader_process_is_told_without_its_traceback():
    text = "Caught KeyError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\nKeyError: 'a'"
    assert first_line(RuntimeError(text)) == "KeyError: 'a'"


def test_output_that_finds_no_room_is_an_error():
    with open("/dev/full", "w") as full:
        said = subprocess.run(printing("'line'"), stdout=full, stderr=subprocess.PIPE, text=True)
    assert said.returncode == 2 and re.fullmatch(r"otalab: error: .*No space left on device\n", said.stderr)


def test_a_name_that_the_terminal_cannot_show_is_escaped():
    said = subprocess.run(printing("'n\\xe4me \\udcff'"), capture_output=True, env={"PYTHONIOENCODING": "ascii"})
    assert (said.returncode, said.stdout, said.stderr) == (0, b"n\\xe4me \\udcff\n", b"")
