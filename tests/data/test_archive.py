import zipfile

import numpy as np
import pytest

from otalab.data import safe_extract
from otalab.errors import InputError


def make_zip(path, files: dict[str, bytes], link: str | None = None):
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc")
    return path


def test_an_archive_is_extracted_all_or_as_chosen(tmp_path):
    archive = make_zip(tmp_path / "a", {"one.txt": b"1", "deep/er/two.txt": b"22"})
    paths = safe_extract(archive, tmp_path / "all", progress=False)
    assert [p.relative_to(tmp_path / "all").as_posix() for p in paths] == ["one.txt", "deep/er/two.txt"]
    assert [p.read_bytes() for p in paths] == [b"1", b"22"]
    safe_extract(archive, tmp_path / "some", choose=lambda name: name.endswith("two.txt"), progress=False)
    assert [p.name for p in (tmp_path / "some").rglob("*.txt")] == ["two.txt"]


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "C:/evil", "..\\evil"])
def test_a_member_that_climbs_out_stops_everything(tmp_path, name):
    archive = make_zip(tmp_path / "a", {"good.txt": b"1", name: b"2"})
    with pytest.raises(InputError, match=r"will not extract .*evil"):
        safe_extract(archive, tmp_path / "deep" / "out", progress=False)
    assert [p.name for p in tmp_path.rglob("*")] == ["a"]


def test_a_link_stops_everything(tmp_path):
    archive = make_zip(tmp_path / "a", {"good.txt": b"1"}, link="way-out")
    with pytest.raises(InputError, match="will not extract 'way-out'"):
        safe_extract(archive, tmp_path / "out", progress=False)
    assert [p.name for p in tmp_path.rglob("*")] == ["a"]


def test_a_damaged_or_missing_archive_is_named(tmp_path):
    good = make_zip(tmp_path / "a.zip", {"x": np.random.default_rng(0).bytes(100_000)}).read_bytes()
    (tmp_path / "flipped.zip").write_bytes(good[:5000] + b"oops" + good[5004:])
    (tmp_path / "cut.zip").write_bytes(good[:5000])
    for name in ("flipped.zip", "cut.zip", "none.zip"):
        with pytest.raises(InputError, match=f"cannot extract .*{name}"):
            safe_extract(tmp_path / name, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "x").exists()


def test_damaged_bytes_never_raise_anything_else(tmp_path):
    rng, name = np.random.default_rng(0), "a.zip"
    make_zip(tmp_path / name, {"one": b"1" * 500, "two": rng.bytes(500)})
    whole = np.frombuffer((tmp_path / name).read_bytes(), dtype=np.uint8)
    for _ in range(60):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), 3)] = rng.integers(0, 256, 3)
        (tmp_path / name).write_bytes(damaged.tobytes()[: rng.integers(len(whole) // 2, len(whole) + 1)])
        try:
            safe_extract(tmp_path / name, tmp_path / "out", progress=False)
        except InputError as error:
            assert "\n" not in str(error) and name in str(error)


def test_an_archive_larger_than_the_disk_is_refused(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", {"x": np.random.default_rng(0).bytes(100_000)})
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(InputError, match=r"needs 0\.0 GB but .* has 0\.0 GB free"):
        safe_extract(archive, tmp_path / "out", progress=False)
