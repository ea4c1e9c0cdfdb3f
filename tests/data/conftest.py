import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from otalab.data import download


class Server(ThreadingHTTPServer):
    """Files by path, with ETag, Range and If-Range; and the ways in which servers fail."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None  # bytes after which the connection breaks
        self.statuses: list[int] = []  # answers to give before any other
        self.length: str | None = None  # what Content-Length says instead
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
        self.send_header("Content-Length", server.length or str(len(body) - start))
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
