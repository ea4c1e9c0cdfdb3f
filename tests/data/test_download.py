import hashlib
import io
import json
import re
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from otalab.data import CocoDataset, download, fetch, fetch_coco, safe_extract
from otalab.errors import InputError

BODY = np.random.default_rng(0).bytes(1_000_000)


class Server(ThreadingHTTPServer):
    """Files by path, with ETag, Range and If-Range; and the ways in which servers fail."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None  # bytes after which the connection breaks
        self.statuses: list[int] = []  # answers to give before any other
        self.ranges = True
        self.tags = True
        self.asked: list[tuple[str, str | None]] = []  # (path, Range header)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, name = self.server, self.path[1:]
        server.asked.append((name, self.headers.get("Range")))
        if server.statuses or name not in server.files:
            return self.send_error(server.statuses.pop(0) if server.statuses else 404)
        body = server.files[name]
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        start = int(re.search(r"\d+", self.headers.get("Range", "0"))[0])
        if not server.ranges or self.headers.get("If-Range", tag) != tag:
            start = 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if server.tags:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        return self.wfile.write(body[start : None if server.cut is None else start + server.cut])

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def get(server: Server, path, name: str = "a.bin", **options):
    return fetch(server.url(name), path, progress=False, **options)


def test_a_file_arrives_whole_with_either_checksum(server, tmp_path):
    server.files["a.bin"] = BODY
    path = get(server, tmp_path / "deep" / "a.bin", sha256=hashlib.sha256(BODY).hexdigest())
    assert path.read_bytes() == BODY
    assert get(server, tmp_path / "b.bin", md5=hashlib.md5(BODY).hexdigest().upper()).read_bytes() == BODY
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.bin", "b.bin"]  # no leavings


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    server.files["a.bin"], server.cut = BODY, 300_000
    with pytest.raises(InputError, match=rf"{server.url('a.bin')}: .* after 300000 .*1000000 bytes"):
        get(server, tmp_path / "a.bin", attempts=1)
    assert not (tmp_path / "a.bin").exists()
    server.cut = None
    assert get(server, tmp_path / "a.bin", attempts=1).read_bytes() == BODY
    assert server.asked == [("a.bin", None), ("a.bin", "bytes=300000-")]


def test_attempts_within_one_call_add_up(server, tmp_path):
    server.files["a.bin"], server.cut = BODY, 400_000
    assert get(server, tmp_path / "a.bin", attempts=3).read_bytes() == BODY
    assert [asked for _, asked in server.asked] == [None, "bytes=400000-", "bytes=800000-"]


def test_a_file_that_changed_meanwhile_starts_again(server, tmp_path):
    server.files["a.bin"], server.cut = BODY, 300_000
    with pytest.raises(InputError):
        get(server, tmp_path / "a.bin", attempts=1)
    server.files["a.bin"], server.cut = BODY[::-1], None
    assert get(server, tmp_path / "a.bin", attempts=1).read_bytes() == BODY[::-1]


@pytest.mark.parametrize("lacking", ["ranges", "tags"])
def test_a_server_without_ranges_or_tags_starts_again(server, tmp_path, lacking):
    setattr(server, lacking, False)
    server.files["a.bin"], server.cut = BODY, 300_000
    with pytest.raises(InputError):
        get(server, tmp_path / "a.bin", attempts=1)
    server.cut = None
    assert get(server, tmp_path / "a.bin", attempts=1).read_bytes() == BODY


def test_bytes_that_all_arrived_are_not_fetched_twice(server, tmp_path):
    server.files["a.bin"] = BODY
    (tmp_path / "a.bin.part").write_bytes(BODY)
    (tmp_path / "a.bin.part.tag").write_text(f'"{hashlib.md5(BODY).hexdigest()}"')
    assert get(server, tmp_path / "a.bin").read_bytes() == BODY
    (tmp_path / "b.bin.part").write_bytes(BODY + b"more")  # more than there is: not of this file
    (tmp_path / "b.bin.part.tag").write_text(f'"{hashlib.md5(BODY).hexdigest()}"')
    assert get(server, tmp_path / "b.bin").read_bytes() == BODY


def test_a_wrong_checksum_leaves_nothing_behind(server, tmp_path):
    server.files["a.bin"] = BODY
    found = hashlib.sha256(BODY).hexdigest()
    with pytest.raises(InputError, match=rf"a\.bin arrived damaged: its sha256 is {found}, not {'0' * 64}"):
        get(server, tmp_path / "a.bin", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_file_already_there_is_kept_or_replaced_by_its_checksum(server, tmp_path):
    server.files["a.bin"] = BODY
    (tmp_path / "a.bin").write_bytes(b"old")
    assert get(server, tmp_path / "a.bin").read_bytes() == b"old" and server.asked == []
    assert get(server, tmp_path / "a.bin", md5=hashlib.md5(BODY).hexdigest()).read_bytes() == BODY
    assert get(server, tmp_path / "a.bin", md5=hashlib.md5(BODY).hexdigest()).read_bytes() == BODY
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


# Archives


def make_zip(path, files: dict[str, bytes], link: str | None = None):
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc")
    return path


def make_tar(path, files: dict[str, bytes], link: str | None = None):
    with tarfile.open(path, "w:gz") as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(info)
    return path


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_is_extracted_all_or_as_chosen(tmp_path, make):
    archive = make(tmp_path / "a", {"one.txt": b"1", "deep/er/two.txt": b"22"})
    paths = safe_extract(archive, tmp_path / "all", progress=False)
    assert [p.relative_to(tmp_path / "all").as_posix() for p in paths] == ["one.txt", "deep/er/two.txt"]
    assert [p.read_bytes() for p in paths] == [b"1", b"22"]
    safe_extract(archive, tmp_path / "some", choose=lambda name: name.endswith("two.txt"), progress=False)
    assert [p.name for p in (tmp_path / "some").rglob("*.txt")] == ["two.txt"]


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "C:/evil", "..\\evil"])
def test_a_member_that_climbs_out_stops_everything(tmp_path, make, name):
    archive = make(tmp_path / "a", {"good.txt": b"1", name: b"2"})
    with pytest.raises(InputError, match=r"will not extract .*evil"):
        safe_extract(archive, tmp_path / "deep" / "out", progress=False)
    assert [p.name for p in tmp_path.rglob("*")] == ["a"]


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_link_stops_everything(tmp_path, make):
    archive = make(tmp_path / "a", {"good.txt": b"1"}, link="way-out")
    with pytest.raises(InputError, match="will not extract 'way-out'"):
        safe_extract(archive, tmp_path / "out", progress=False)
    assert [p.name for p in tmp_path.rglob("*")] == ["a"]


def test_a_damaged_or_missing_archive_is_named(tmp_path):
    good = make_zip(tmp_path / "a.zip", {"x": BODY}).read_bytes()
    (tmp_path / "flipped.zip").write_bytes(good[:5000] + b"oops" + good[5004:])
    (tmp_path / "cut.zip").write_bytes(good[:5000])
    for name in ("flipped.zip", "cut.zip", "none.zip"):
        with pytest.raises(InputError, match=f"cannot extract .*{name}"):
            safe_extract(tmp_path / name, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "x").exists()


def test_an_archive_larger_than_the_disk_is_refused(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", {"x": BODY})
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(InputError, match=r"needs 0\.0 GB but .* has 0\.0 GB free"):
        safe_extract(archive, tmp_path / "out", progress=False)


# COCO, as a server of the same layout gives it


@pytest.fixture
def coco(server, monkeypatch, tmp_path):
    """Twelve photos of 64 x 48 px, their zip and their annotations, under COCO's addresses."""
    images, rows = [], []
    for i in range(1, 13):
        name = f"{i:012d}.jpg"
        stream = io.BytesIO()
        Image.new("RGB", (64, 48), (20 * i, 0, 0)).save(stream, "JPEG")
        server.files[f"val2017/{name}"] = stream.getvalue()
        address = server.url(f"val2017/{name}")
        images.append({"id": i, "file_name": name, "width": 64, "height": 48, "coco_url": address})
        box = {"bbox": [8.0, 12.0, 32.0, 24.0], "area": 700.0, "iscrowd": 0, "segmentation": [[1, 2, 3]]}
        rows.append({"id": i, "image_id": i, "category_id": 1, **box})
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "person"}], "licenses": [7]}
    names = {"annotations/instances_val2017.json": json.dumps(content).encode(), "annotations/captions.json": b"{}"}
    server.files["annotations.zip"] = make_zip(tmp_path / "a.zip", names).read_bytes()
    photos = {name: body for name, body in server.files.items() if name.startswith("val2017/")}
    server.files["val2017.zip"] = make_zip(tmp_path / "v.zip", photos).read_bytes()
    names = {"annotations": "annotations.zip", "val": "val2017.zip"}
    monkeypatch.setattr(download, "COCO_URLS", {key: server.url(name) for key, name in names.items()})
    sums = {key: hashlib.md5(server.files[name]).hexdigest() for key, name in names.items()}
    monkeypatch.setattr(download, "COCO_MD5", sums)
    return server


def test_a_whole_split_lands_in_the_official_layout_once(coco, tmp_path):
    folder = fetch_coco(tmp_path / "coco", "val", progress=False)
    data = CocoDataset.from_folder(folder, "val")
    assert len(data) == 12 and len(list(data)) == 12
    assert sorted(p.name for p in folder.iterdir()) == ["annotations", "val2017"]  # the archives are gone
    assert [p.name for p in (folder / "annotations").iterdir()] == ["instances_val2017.json"]
    asked = len(coco.asked)
    fetch_coco(folder, "val", progress=False)
    assert len(coco.asked) == asked
    next((folder / "val2017").iterdir()).unlink()
    fetch_coco(folder, "val", progress=False)
    assert len(CocoDataset.from_folder(folder, "val")) == 12


def test_a_subset_is_fetched_photo_by_photo(coco, tmp_path):
    folder = fetch_coco(tmp_path / "coco", "val", max_images=4, seed=2, progress=False)
    data = CocoDataset.from_folder(folder, "val")
    assert data.image_ids == CocoDataset(*fetch_all(tmp_path), max_images=4, seed=2).image_ids
    assert [round(255 * picture[0, 0, 0].item() / 20) for picture, _ in data] == data.image_ids
    content = json.loads((folder / "val" / "instances.json").read_text())
    assert content["licenses"] == [7] and len(content["annotations"]) == 4
    assert all("segmentation" not in row and row["bbox"] == [8.0, 12.0, 32.0, 24.0] for row in content["annotations"])
    asked = len(coco.asked)
    fetch_coco(folder, "val", max_images=6, seed=2, progress=False)
    assert len(coco.asked) == asked + 2  # the larger choice adds two


def fetch_all(tmp_path):
    folder = fetch_coco(tmp_path / "all", "val", progress=False)
    return folder / "annotations" / "instances_val2017.json", folder / "val2017"


def test_a_subset_may_be_shrunk_with_its_boxes(coco, tmp_path):
    folder = fetch_coco(tmp_path / "coco", "val", max_images=3, longest_side=32, progress=False)
    picture, target = CocoDataset.from_folder(folder, "val")[0]
    assert picture.shape == (3, 24, 32)
    assert target["boxes"].tolist() == [[4.0, 6.0, 20.0, 18.0]]
    rows = json.loads((folder / "val" / "instances.json").read_text())["annotations"]
    assert [row["area"] for row in rows] == [175.0] * 3
    fetch_coco(folder, "val", max_images=3, longest_side=500, progress=False)  # never enlarged; the originals again
    assert CocoDataset.from_folder(folder, "val")[0][0].shape == (3, 48, 64)
    assert sorted(p.suffix for p in (folder / "val" / "images").iterdir()) == [".jpg"] * 3


def test_a_photo_that_fails_leaves_no_annotation_file(coco, tmp_path):
    for i in range(1, 13):
        if i % 2:
            del coco.files[f"val2017/{i:012d}.jpg"]
    with pytest.raises(InputError, match="HTTP 404"):
        fetch_coco(tmp_path / "coco", "val", max_images=12, progress=False)
    assert not (tmp_path / "coco" / "val" / "instances.json").exists()


def test_wrong_options_are_named(tmp_path):
    with pytest.raises(InputError, match="split must be train or val, got 'test'"):
        fetch_coco(tmp_path, "test")
    with pytest.raises(InputError, match=r"longest_side 320 must .* go with max_images"):
        fetch_coco(tmp_path, "val", longest_side=320)
