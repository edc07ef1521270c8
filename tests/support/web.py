"""A web server of one folder on loopback that sends ranges, counts requests, and misbehaves as it is told."""

from __future__ import annotations

import os
import threading
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

SWITCHES = ("OVERTILE_ALLOW_HTTP", "OVERTILE_ALLOW_PRIVATE")


class WebServer:
    """A context manager, which also allows its address in the environment and puts it back.

    Args:
        folder: what is served.

    Attributes:
        etags: whether answers tell an etag.
        ranges: whether parts of files are sent.
        status: of every answer in place of the right one; None for the right one.
        counts: requests that came, by method.
        sent: bytes that were sent in answers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.etags = True
        self.ranges = True
        self.status: int | None = None
        self.counts: Counter[str] = Counter()
        self.sent = 0

    def __enter__(self) -> WebServer:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True, name="web")
        self._thread.start()
        names = (*SWITCHES, "OVERTILE_STORE_PATIENCE")
        self._before = {name: os.environ.get(name) for name in names}
        os.environ.update(dict.fromkeys(SWITCHES, "1"), OVERTILE_STORE_PATIENCE="1")
        return self

    def __exit__(self, *raised: object) -> None:
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, name: str) -> str:
        """Return the address of a file in the folder."""
        return f"http://127.0.0.1:{self._server.server_port}/{name}"


def handler(server: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *parts: object) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            server.counts[self.command] += 1
            path = server.folder / unquote(self.path).lstrip("/")
            if server.status is not None or not path.is_file():
                self.send_response(server.status or 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data, found = path.read_bytes(), path.stat()
            start, stop = self.wanted(len(data))
            part = data[start:stop]
            self.send_response(206 if (start, stop) != (0, len(data)) or self.asks() else 200)
            if self.asks():
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Last-Modified", formatdate(found.st_mtime, usegmt=True))
            if server.etags:
                self.send_header("ETag", f'"{found.st_mtime_ns}-{len(data)}"')
            self.end_headers()
            if body:
                server.sent += len(part)
                self.wfile.write(part)

        def asks(self) -> bool:
            return server.ranges and self.headers.get("Range") is not None

        def wanted(self, size: int) -> tuple[int, int]:
            if not self.asks():
                return 0, size
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            return int(first), min(size, int(last) + 1 if last else size)

    return Handler
