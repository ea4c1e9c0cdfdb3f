import hashlib

import numpy as np
import pytest

from otalab.data import fetch
from otalab.errors import InputError

BODY = np.random.default_rng(0).bytes(1_000_000)
SUM = hashlib.md5(BODY).hexdigest()


def get(server, path, name: str = "a.bin", **options):
    return fetch(server.url(name), path, progress=False, **options)


def test_a_file_arrives_whole_with_its_sum_or_without(server, tmp_path):
    server.files["a.bin"] = BODY
    assert get(server, tmp_path / "deep" / "a.bin").read_bytes() == BODY
    assert get(server, tmp_path / "b.bin", md5=SUM.upper()).read_bytes() == BODY
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.bin", "b.bin"]  # no leavings


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    server.files["a.bin"], server.cut = BODY, 300_000
    with pytest.raises(InputError, match=rf"{server.url('a.bin')}: .* after 300000 .*1000000 bytes"):
        get(server, tmp_path / "a.bin", md5=SUM, attempts=1)
    assert not (tmp_path / "a.bin").exists()
    server.cut = None
    assert get(server, tmp_path / "a.bin", md5=SUM, attempts=1).read_bytes() == BODY
    assert server.asked == [("a.bin", None), ("a.bin", "bytes=300000-")]


def test_attempts_within_one_call_add_up(server, tmp_path):
    server.files["a.bin"], server.cut = BODY, 400_000
    assert get(server, tmp_path / "a.bin", md5=SUM, attempts=3).read_bytes() == BODY
    assert [asked for _, asked in server.asked] == [None, "bytes=400000-", "bytes=800000-"]


def test_without_a_sum_or_ranges_it_starts_again(server, tmp_path):
    for ranges, md5 in ((True, None), (False, hashlib.md5(BODY[::-1]).hexdigest())):
        server.files["a.bin"], server.cut, server.ranges = BODY, 300_000, ranges
        with pytest.raises(InputError):
            get(server, tmp_path / "a.bin", md5=md5, attempts=1)
        server.files["a.bin"], server.cut = BODY[::-1], None  # nobody could tell that the old bytes are of another file
        assert get(server, tmp_path / "a.bin", md5=md5, attempts=1).read_bytes() == BODY[::-1]
        (tmp_path / "a.bin").unlink()


def test_bytes_that_all_arrived_are_not_fetched_twice(server, tmp_path):
    server.files["a.bin"] = BODY
    (tmp_path / "a.bin.part").write_bytes(BODY)
    assert get(server, tmp_path / "a.bin", md5=SUM).read_bytes() == BODY
    assert server.asked == [("a.bin", f"bytes={len(BODY)}-")]


@pytest.mark.parametrize("old", [BODY + b"more", b"old"])
def test_old_bytes_of_another_file_are_found_out_and_removed(server, tmp_path, old):
    server.files["a.bin"] = BODY
    (tmp_path / "a.bin.part").write_bytes(old)
    with pytest.raises(InputError, match=rf"a\.bin arrived damaged: its md5 is .*, not {SUM}"):
        get(server, tmp_path / "a.bin", md5=SUM)
    assert list(tmp_path.iterdir()) == []
    assert get(server, tmp_path / "a.bin", md5=SUM).read_bytes() == BODY


def test_a_file_already_there_is_kept_or_replaced_by_its_sum(server, tmp_path):
    server.files["a.bin"] = BODY
    (tmp_path / "a.bin").write_bytes(b"old")
    assert get(server, tmp_path / "a.bin").read_bytes() == b"old" and server.asked == []
    assert get(server, tmp_path / "a.bin", md5=SUM).read_bytes() == BODY
    assert get(server, tmp_path / "a.bin", md5=SUM).read_bytes() == BODY
    assert len(server.asked) == 1


def test_an_http_error_names_address_and_status(server, tmp_path):
    with pytest.raises(InputError, match=rf"cannot fetch {server.url('none.bin')}: HTTP 404 Not Found"):
        get(server, tmp_path / "a.bin", "none.bin")
    assert len(server.asked) == 1  # asking again would not help
    assert list(tmp_path.iterdir()) == []


def test_a_passing_error_is_tried_again(server, tmp_path):
    server.files["a.bin"], server.statuses = BODY, [503, 429]
    assert get(server, tmp_path / "a.bin").read_bytes() == BODY
    server.statuses = [503, 503, 503]
    with pytest.raises(InputError, match="HTTP 503"):
        get(server, tmp_path / "b.bin")


def test_no_server_and_other_schemes_are_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot fetch http://127\.0\.0\.1:9/a: .*refused"):
        fetch("http://127.0.0.1:9/a", tmp_path / "a", progress=False, attempts=1)
    with pytest.raises(InputError, match="not an http or https address"):
        fetch("file:///etc/hostname", tmp_path / "a", progress=False)


@pytest.mark.parametrize("length", ["many", "-5", "1e6", "\u00b2"])
def test_a_length_that_is_no_number_is_not_believed(server, tmp_path, length):
    server.files["a.bin"], server.length = BODY, length
    assert get(server, tmp_path / "a.bin", md5=SUM).read_bytes() == BODY


def test_a_file_larger_than_the_disk_is_refused_before_it_comes(server, tmp_path):
    server.files["a.bin"], server.length = BODY, str(10**18)
    with pytest.raises(InputError, match=r"a\.bin needs 1000000000\.0 GB but .* has .* GB free"):
        get(server, tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists() and len(server.asked) == 1


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://a b/c", "http://\u00e4" + "a" * 99, "http://x:y/", "http://", "ftp://a\nb"]
)
def test_an_address_that_is_none_is_named(tmp_path, url):
    with pytest.raises(InputError, match="cannot fetch") as caught:
        fetch(url, tmp_path / "a", progress=False, attempts=1)
    assert "\n" not in str(caught.value)
