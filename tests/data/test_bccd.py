"""The archive of the blood cells, from a server on this machine."""

import io
import zipfile

import pytest
from conftest import as_zip
from foreign_files import photo, rows_of, voc_xml

from otalab.data import bccd
from otalab.errors import InputError

ROOT = "BCCD_Dataset-1.0/BCCD"
XML = voc_xml(("RBC", (1, 2, 11, 12), 0), ("WBC", (20, 2, 30, 12), 0), ("Platelets", (1, 20, 6, 25), 0))


@pytest.fixture
def archive(server, monkeypatch, tmp_path) -> dict[str, bytes]:
    """The files of an archive of three photos; `serve` them."""
    picture = photo(tmp_path / "one.jpg").read_bytes()
    files = {f"{ROOT}/Annotations/{i}.xml": XML.encode() for i in range(3)}
    files |= {f"{ROOT}/JPEGImages/{i}.jpg": picture for i in range(3)}
    files |= {
        f"{ROOT}/ImageSets/Main/{split}.txt": f"{i}\n".encode() for i, split in enumerate(("train", "val", "test"))
    }
    monkeypatch.setattr(bccd, "BCCD_URL", server.url("bccd.zip"))
    monkeypatch.setattr(bccd, "BCCD_PHOTOS", 3)
    return files


def test_the_photos_are_fetched_and_read(server, archive, tmp_path):
    server.files["bccd.zip"] = as_zip(archive)
    folder, splits = bccd.fetch_bccd(tmp_path / "set", longest_side=20, progress=False)
    assert {name: len(split.photos) for name, split in splits.items()} == {"train": 1, "val": 1, "test": 1}
    assert rows_of(folder, "test")[:2] == [("2.jpg", "RBC", (0.5, 1, 5, 5), 0), ("2.jpg", "WBC", (10, 1, 5, 5), 0)]
    asked = len(server.asked)
    with pytest.raises(InputError, match="exists already"):
        bccd.fetch_bccd(folder, progress=False)
    assert len(server.asked) == asked


def linked(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO(as_zip(files))
    with zipfile.ZipFile(stream, "a") as archive:
        info = zipfile.ZipInfo(f"{ROOT}/JPEGImages/way-out.jpg")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/hostname")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda files: as_zip(files | {"../evil.xml": b""}), r"will not extract '\.\./evil\.xml'"),
        (linked, "will not extract .*way-out"),
        (lambda files: as_zip(files)[:-100], "cannot extract"),
        (lambda files: b"<html>not here</html>", "cannot extract"),
        (lambda files: as_zip({"README.md": b""}), "holds 0 folders Annotations"),
        (lambda files: as_zip({n: b for n, b in files.items() if "2.jpg" not in n}), "holds 2 photos of the classes"),
        (lambda files: as_zip(files | {f"{ROOT}/JPEGImages/1.jpg": b"no photo"}), "cannot read image .*1.jpg"),
        (lambda files: as_zip(files | {f"{ROOT}/Annotations/1.xml": b"<!DOCTYPE a>"}), "declares a document type"),
    ],
)
def test_an_archive_at_fault_leaves_one_line_and_no_folder(spoil, says, server, archive, tmp_path):
    server.files["bccd.zip"] = spoil(archive)
    with pytest.raises(InputError, match=says) as caught:
        bccd.fetch_bccd(tmp_path / "out" / "set", progress=False)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists() and not list(tmp_path.rglob("evil*"))


def test_a_server_at_fault_leaves_one_line_and_no_folder(server, archive, tmp_path):
    with pytest.raises(InputError, match=r"cannot fetch .*bccd\.zip: HTTP 404"):
        bccd.fetch_bccd(tmp_path / "set", progress=False)
    server.files["bccd.zip"], server.cut = as_zip(archive), 700
    with pytest.raises(InputError, match=r"cannot fetch .*ended after 700 of \d+ bytes"):
        bccd.fetch_bccd(tmp_path / "set", progress=False)
    assert not (tmp_path / "set").exists()
