"""Canaries planted in all that a flow says are nowhere in the server's database."""

import logging

import pytest
from prefect import flow, task
from waiting import wait_until

from flows.artifacts import FlowListener, show_link, show_markdown, show_table
from flows.events import announce
from flows.redact import redacted
from pipeline.errors import InputError

pytestmark = pytest.mark.slow

CANARY = "c4n4ryBird9"
VALUE = "of-the-environment-5"


@task
@redacted
def leaky_task() -> None:
    """Fail."""
    raise FileNotFoundError(2, "none", f"s3://me:{CANARY}@bucket/image.zarr")


@flow(name="leaky")
@redacted
def leaky() -> None:
    """Say a secret in every way."""
    with FlowListener("leaky", f"s3://me:{CANARY}@bucket/out.zarr", interval=0) as listener:
        listener.phase("predict", 2, "chunks")
        listener.note(f"asked with token={CANARY}")
        logging.getLogger("overtile.test").warning("chunk 1 failed: %s", f"https://h/a?sig={CANARY}")
        logging.getLogger("overtile.test").warning("the last word: %s", VALUE)
        show_markdown("leaky-text", f"password: {CANARY}", f"token={CANARY}")
        show_table("leaky-table", [{"error": f"s3://me:{CANARY}@bucket"}], f"secret={CANARY}")
        show_link("leaky-link", f"s3://me:{CANARY}@bucket/report.html", "report")
        announce("out.zarr", {}, InputError(f"token={CANARY}"))
        state = leaky_task(return_state=True)
        assert state.is_failed()
        try:
            raise ValueError(VALUE)
        except ValueError as cause:
            raise InputError(f"s3://me:{CANARY}@bucket: no") from cause


def test_no_secret_is_in_the_database(server, monkeypatch):
    monkeypatch.setenv("OVERTILE_TEST_TOKEN", VALUE)
    state = leaky(return_state=True)
    assert state.is_failed()
    assert "s3://***@bucket: no" in state.message

    def database():
        return b"".join(path.read_bytes() for path in sorted(server.home.glob("prefect.db*")))

    for said in (
        b"the last word: ***",
        b"asked with token=***",
        b"secret=***",
        b"overtile.run.failed",
        b"***@bucket",
    ):
        wait_until(lambda said=said: said in database())
    assert CANARY.encode() not in database()
    assert VALUE.encode() not in database()
