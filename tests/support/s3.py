"""A real S3 server for tests (moto, on loopback, in a thread), behind a middleware that fails as it is told."""

from __future__ import annotations

import os
import random
import socket
import threading
import urllib.request
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

BUCKET = "overtile-test"
"""The bucket that every server has."""

Kind = Literal["503", "500", "403", "reset", "lost", "lost-reset", "slow"]
"""What can happen to a request.

Answered with a status and not carried out ("503", "500", "403"); the connection broken off before it is carried
out ("reset"); carried out, but answered with 500 or by breaking off ("lost", "lost-reset"); carried out after a
wait of ``S3Server.slowness`` seconds ("slow").
"""

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

OTHERS = ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_SKIP_SIGNATURE", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION")
"""Settings of the machine that must not reach the tests."""


class S3Server:
    """An S3 server of one block: a context manager, which also sets the environment and puts it back.

    Processes that are started within the block (Dask's workers among them) inherit the environment.

    Args:
        patience: ``OVERTILE_STORE_PATIENCE``, seconds that clients try a request again for.
        seed: of the random faults.

    Attributes:
        rate: share of requests that are answered with 503, from 0 to 1.
        slowness: seconds that a slow request takes; the server's end cuts them short.
        counts: requests that came, by method (those that were made to fail included).
        failed: requests that were made to fail, by kind.
    """

    def __init__(self, *, patience: float = 2.0, seed: int = 0) -> None:
        self.rate = 0.0
        self.slowness = 30.0
        self.counts: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._patience = patience
        self._chance = random.Random(seed)
        self._orders: list[Order] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> S3Server:
        self._server = make_server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True, name="s3")
        self._thread.start()
        make_bucket(f"{self.endpoint}/{BUCKET}")
        self.forget()
        self._set(self.environment, OTHERS)
        return self

    def __exit__(self, *raised: object) -> None:
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """Address of the service, without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client of this server needs in its environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "overtile",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_REGION": "us-east-1",
            "OVERTILE_STORE_PATIENCE": str(self._patience),
        }

    @property
    def requests(self) -> int:
        """How many requests have come."""
        return sum(self.counts.values())

    def url(self, name: str) -> str:
        """Return the address of a prefix in the server's bucket."""
        return f"s3://{BUCKET}/{name}"

    def fail(self, nth: int, kind: Kind, *, count: int | None = 1, method: str | None = None) -> None:
        """Make requests fail.

        Args:
            nth: the first, counted from 1 and from this call on.
            kind: how.
            count: how many in a row; None for all that follow.
            method: only those of this HTTP method are counted, and fail.
        """
        with self._lock:
            self._orders.append(Order(nth, kind, count, method))

    def heal(self) -> None:
        """Let nothing fail any more."""
        with self._lock:
            self.rate = 0.0
            self._orders.clear()

    def forget(self) -> None:
        """Count from zero again."""
        with self._lock:
            self.counts.clear()
            self.failed.clear()

    def verdict(self, method: str) -> Kind | None:
        """Count a request, and say what happens to it."""
        with self._lock:
            self.counts[method] += 1
            kinds = [order.kind for order in self._orders if order.hits(method)]
            if not kinds and self.rate and self._chance.random() < self.rate:
                kinds = ["503"]
            if kinds:
                self.failed[kinds[0]] += 1
            return kinds[0] if kinds else None

    def wait(self) -> None:
        """Pass a slow request's time."""
        self._ended.wait(self.slowness)

    def _set(self, values: Mapping[str, str], removed: Iterable[str]) -> None:
        self._before = {name: os.environ.get(name) for name in (*values, *removed)}
        for name in removed:
            os.environ.pop(name, None)
        os.environ.update(values)


@dataclass
class Order:
    """Requests that are to fail; counts down to the first of them."""

    nth: int
    kind: Kind
    count: int | None
    method: str | None

    def hits(self, method: str) -> bool:
        if self.method not in (None, method):
            return False
        self.nth -= 1
        return self.nth <= 0 and (self.count is None or self.nth > -self.count)


@pytest.fixture
def s3() -> Iterator[S3Server]:
    """An empty S3 server whose clients give up after two seconds."""
    with S3Server() as server:
        yield server


def make_server(faults: S3Server) -> Any:
    """Return a server on a free port of loopback; it serves when it is told to."""
    with warnings.catch_warnings():  # of moto's own imports, which take a second: only here, where they are needed
        warnings.simplefilter("ignore")
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from moto.s3.models import s3_backends
        from werkzeug.serving import WSGIRequestHandler
        from werkzeug.serving import make_server as make

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None:
            """Say nothing."""

    s3_backends.reset()  # its objects belong to the process, not to a server
    application = faulty(DomainDispatcherApplication(create_backend_app), faults)
    return make("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)


def faulty(application: Application, faults: S3Server) -> Application:
    """Return an application that fails as ``faults`` says."""
    one = threading.Lock()  # a conditional put is one step in S3; in moto it is two

    def carry_out(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        with one, warnings.catch_warnings():
            return list(application(environ, start))

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        kind = faults.verdict(environ["REQUEST_METHOD"])
        if kind is None:
            return carry_out(environ, start)
        if kind == "reset":
            return hang_up(environ)
        if kind == "slow":
            faults.wait()
            return carry_out(environ, start)
        if kind in ("lost", "lost-reset"):
            carry_out(environ, lambda *_: None)
            return refuse(start, "500") if kind == "lost" else hang_up(environ)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return refuse(start, kind)

    return answer


ANSWERS = {
    "503": ("503 Slow Down", "SlowDown"),
    "500": ("500 Error", "InternalError"),
    "403": ("403 No", "AccessDenied"),
}


def refuse(start: Callable[..., Any], status: str) -> list[bytes]:
    line, code = ANSWERS[status]
    body = f"<Error><Code>{code}</Code><Message>as the test wished</Message></Error>".encode()
    start(line, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def hang_up(environ: dict[str, Any]) -> list[bytes]:
    """Break the connection off, as a machine that dies does."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError("as the test wished")


def make_bucket(url: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=30) as answer:
        assert answer.status == 200
