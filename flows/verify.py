"""Verification as a flow: every stored byte of a result against what its run recorded."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

import pipeline
from flows.artifacts import FlowListener, show_markdown
from flows.naming import run_name
from flows.redact import redacted
from flows.texts import facts
from pipeline.errors import DamageError
from pipeline.jobs.listener import Listener

SHOWN = 20
"""Keys of each kind that are shown."""


@flow(name="verify", flow_run_name=run_name, persist_result=False, result_serializer="json")
@redacted
def verify_flow(output: str, repair: bool = False) -> dict[str, Any]:
    """Compare every stored byte of a result with its run's ledger, and decode it. Fails where there is damage.

    Args:
        output: the result, OUT.zarr, with its run beside it.
        repair: make what is missing or damaged pending again, so that rerun-failed computes it anew.

    Returns:
        What ``overtile verify --json`` prints.
    """
    with FlowListener("verify", output) as listener:
        found = verify(output, repair, listener)
        lists = {name: found[name][:SHOWN] or None for name in ("missing", "damaged", "foreign", "leftovers")}
        shown = {name: found[name] for name in ("ok", "checked", "incomplete", "root", "sealed_root")}
        said = "as recorded" if found["ok"] else "damaged"
        show_markdown("verify-found", facts(output, shown | lists), f"{said} · {output}")
    check(output, found, repaired=repair)
    return found


@task(name="verify", task_run_name="verify", cache_policy=NO_CACHE)
@redacted
def verify(output: str, repair: bool, listener: Listener) -> dict[str, Any]:
    """Read and compare."""
    look = pipeline.repair if repair else pipeline.verify
    return look(output, on_progress=_Chunks(listener)).to_json()


def check(output: str, found: dict[str, Any], *, repaired: bool) -> None:
    """Raise DamageError where a verification found something."""
    if found["ok"]:
        return
    counts = ", ".join(f"{count} {name}" for name, count in found["counts"].items() if count)
    what = f"{output}: {counts or 'the root digest differs from the seal'}"
    if repaired:
        raise DamageError(
            f"{what}; {len(found['chunks'])} chunk(s) are pending now: run rerun-failed/rerun-failed"
        )
    raise DamageError(f"{what}; run this again with repair, then rerun-failed/rerun-failed")


class _Chunks:
    """Tells a listener of compared chunks; the phase begins when their number is known."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._begun = False

    def __call__(self, done: int, total: int) -> None:
        if not self._begun:
            self._listener.phase("verify", total, "chunks")
            self._begun = True
        self._listener.progress(done)
