import hashlib
import io
import json
import re
import threading
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from otalab.data import coco_download, download


class Server(ThreadingHTTPServer):
    """Files by path, and parts of them; and the ways in which servers fail."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None  # bytes after which the connection breaks
        self.statuses: list[int] = []  # answers to give before any other
        self.length: str | None = None  # what Content-Length says instead
        self.ranges = True
        self.pause = 0.0  # seconds between two pieces of a body
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
        start = int(re.search(r"\d+", self.headers.get("Range", "0"))[0])
        if not server.ranges:
            start = 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", server.length or str(len(body) - start))
        self.end_headers()
        body = body[start : None if server.cut is None else start + server.cut]
        size = len(body) // 4 + 1 if server.pause else len(body)
        for piece in range(0, len(body), size or 1):
            threading.Event().wait(server.pause)
            self.wfile.write(body[piece : piece + size])
        return None

    def log_message(self, *args) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that was killed
            super().handle()

    def finish(self) -> None:
        with suppress(ConnectionError):
            super().finish()


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


def as_zip(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return stream.getvalue()


@pytest.fixture
def coco(server, monkeypatch):
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
    server.files["annotations.zip"] = as_zip(names)
    photos = {name: body for name, body in server.files.items() if name.startswith("val2017/")}
    server.files["val2017.zip"] = as_zip(photos)
    names = {"annotations": "annotations.zip", "val": "val2017.zip"}
    monkeypatch.setattr(coco_download, "COCO_URLS", {key: server.url(name) for key, name in names.items()})
    sums = {key: hashlib.md5(server.files[name]).hexdigest() for key, name in names.items()}
    monkeypatch.setattr(coco_download, "COCO_MD5", sums)
    return server
