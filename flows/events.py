"""Tells the server what became of a run, as events that automations can wait for."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from prefect.events import emit_event

from flows.redact import redact, redact_all
from pipeline.store import absolute

LONGEST = 2000
"""Characters of an error in an event at most."""

MOST_EVENTS = 100
"""Events of one table at most."""

COUNTS = ("total", "done", "skipped", "failed", "pending")


def announce(output: str, found: Mapping[str, Any], error: Exception | None) -> None:
    """Emit ``overtile.run.sealed``, ``overtile.run.partial`` or ``overtile.run.failed``.

    Prefect adds the flow run, its flow, deployment and work pool as related resources.

    Args:
        output: the result, ``OUT.zarr``.
        found: the run's status; empty where there is no run.
        error: why the flow fails.
    """
    state = found.get("state")
    name = "failed" if state not in ("sealed", "partial") or (error is not None and state == "sealed") else state
    place = absolute(output)
    emit_event(
        event=f"overtile.run.{name}",
        resource={
            "prefect.resource.id": f"overtile.run.{blake2b(place.encode(), digest_size=8).hexdigest()}",
            "prefect.resource.name": redact(place),
            "overtile.output": redact(place),
        },
        payload=redact_all(
            {
                **{count: found[count] for count in COUNTS if count in found},
                "seams": bool((found.get("seams") or {}).get("flagged")),
                "output": place,
                "error": None if error is None else f"{type(error).__name__}: {error}"[:LONGEST],
                "rerun": f"overtile rerun {place}",
            }
        ),
    )


def announce_metrics(found: Mapping[str, Any]) -> None:
    """Emit ``overtile.metric.dropped`` for each metric that is below its bound or has dropped, the worst ones first.

    Args:
        found: what :func:`pipeline.aggregate` gave. Of more than :data:`MOST_EVENTS` alerts, the others are only in
            the table and on its page; each event says how many there are.
    """
    table = absolute(found["table"])
    for alert in found["alerts"][:MOST_EVENTS]:
        about = [table, *(str(alert[name]) for name in ("metric", "model", "target", "region"))]
        emit_event(
            event="overtile.metric.dropped",
            resource={
                "prefect.resource.id": f"overtile.metric.{blake2b(repr(about).encode(), digest_size=8).hexdigest()}",
                "prefect.resource.name": redact(f"{alert['metric']} of {alert['model']}")[:LONGEST],
                "overtile.table": redact(table),
            },
            payload=redact_all(
                {**alert, "table": table, "page": absolute(found["page"]), "all": len(found["alerts"])}
            ),
        )
