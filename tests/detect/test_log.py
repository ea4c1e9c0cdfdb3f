"""A run's log is read whole, or the line at fault is named."""

import pytest

from otalab.detect.run_folder import read_log
from otalab.errors import InputError


@pytest.mark.parametrize(
    "line",
    [
        b"5",
        b"[]",
        b"null",
        b'{"loss": 1.0}',
        b'{"step": "2"}',
        b'{"step": 2, "metrics": 3}',
        b"\xff\xfe",
        b'{"step": 2',
    ],
)
def test_a_line_that_no_run_wrote_is_named(line, tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 1, "loss": 2.0}\n' + line + b'\n{"step": 3, "loss": 1.0}\n')
    with pytest.raises(InputError, match=r"log\.jsonl, line 2"):
        read_log(tmp_path)


def test_a_last_line_that_was_cut_within_a_letter_is_left_out(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 1, "loss": 2.0}\n{"step": 2, "metrics": {"AP/\xc3')
    assert read_log(tmp_path) == [{"step": 1, "loss": 2.0}]
