"""A relay in front of a server on loopback that counts the requests which pass: what a client asks, from outside."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast
from urllib.parse import urlsplit

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BLOCK = 1 << 16


class Requests:
    """Finds the requests in what one connection sends: HTTP/1.1 with bodies of a known length, or a websocket.

    Attributes:
        found: method and path of each request, in order, with ``{id}`` for ids and without the query.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self._buffer = b""
        self._body = 0
        self._opaque = False

    def feed(self, data: bytes) -> None:
        """Take in what was sent."""
        self._buffer += data
        while self._buffer and not self._opaque:
            skipped = min(self._body, len(self._buffer))
            self._buffer, self._body = self._buffer[skipped:], self._body - skipped
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if self._body or not end:
                return
            self._buffer = rest
            self._head(head.decode("latin-1"))
        if self._opaque:
            self._buffer = b""

    def _head(self, head: str) -> None:
        line, *lines = head.split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        method, target, _ = line.split(" ")
        self._opaque = fields.get("upgrade", "").lower() == "websocket"
        if "transfer-encoding" in fields:
            raise ValueError(f"{line}: a body of unknown length cannot be skipped")
        self._body = int(fields.get("content-length", 0))
        self.found.append(f"{'WEBSOCKET' if self._opaque else method} {_ID.sub('{id}', urlsplit(target).path)}")


class Relay(socketserver.ThreadingTCPServer):
    """Passes every connection on to a server.

    Args:
        address: of the server: host and port.

    Attributes:
        calls: how often each request was sent.
        connections: how many there were.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        self.server_beyond = address
        self.calls: Counter[str] = Counter()
        self.connections = 0
        self.lock = threading.Lock()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])


class _Passage(socketserver.BaseRequestHandler):
    """One connection; a thread for each direction."""

    def handle(self) -> None:
        relay = cast(Relay, self.server)
        requests = Requests()
        with relay.lock:
            relay.connections += 1
        with socket.create_connection(relay.server_beyond) as beyond:
            back = threading.Thread(target=_pump, args=(beyond, self.request), daemon=True)
            back.start()
            for data in _blocks(self.request):
                before = len(requests.found)
                requests.feed(data)
                with relay.lock:
                    relay.calls.update(requests.found[before:])
                beyond.sendall(data)
            with suppress(OSError):
                beyond.shutdown(socket.SHUT_WR)
            back.join()


def _blocks(source: socket.socket) -> Iterator[bytes]:
    with suppress(OSError):  # the other side is gone: there is no more to pass on
        while data := source.recv(_BLOCK):
            yield data


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        for data in _blocks(source):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def relay_to(url: str) -> Iterator[Relay]:
    """Have a relay in front of the server at this address.

    Args:
        url: ``http://127.0.0.1:4200/api``.
    """
    there = urlsplit(url)
    with Relay((there.hostname or "127.0.0.1", there.port or 80)) as relay:
        thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield relay
        finally:
            relay.shutdown()
            thread.join()
