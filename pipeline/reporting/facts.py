"""What a report says of the outcome: the state of a run, where its time went, plan against outcome, what failed."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.reporting.recorded import Recorded
from pipeline.reporting.words import about, by, duration, percent, seconds_between, size, whole
from pipeline.run.seams import overlaps

SHOWN_STATES = ("done", "failed", "skipped", "pending")
"""The states of a chunk in the order in which they are told."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One phase of the workers' time.

    Attributes:
        name: what was done.
        seconds: how long, for people.
        share: of the longest phase, from 0 to 1.
        note: how much of the working time that is.
        idle: whether it is waiting and no work.
    """

    name: str
    seconds: str
    share: float
    note: str
    idle: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was planned and what came of it."""

    name: str
    planned: str
    found: str
    note: str


def state_text(run: Recorded) -> tuple[str, str]:
    """Return the state in a word or two and in a sentence."""
    counts = run.ledger.counts()
    total = run.ledger.total
    if run.seal:
        skipped = f", {whole(counts['skipped'])} of them skipped ({_reasons(run)})" if counts["skipped"] else ""
        return "Complete", (
            f"All {whole(total)} chunks are accounted for{skipped}, every stored byte was compared with its digest,"
            " and the result is sealed."
        )
    lacking = [
        f"{whole(counts[s])} {word}" for s, word in (("failed", "failed"), ("pending", "are pending")) if counts[s]
    ]
    if not lacking:
        return (
            "Not sealed",
            f"All {whole(total)} chunks are computed, but the result is not verified and sealed yet.",
        )
    return "Incomplete", (
        f"Of {whole(total)} chunks, {' and '.join(lacking)}. Running the same command again does only what is lacking."
    )


def _reasons(run: Recorded) -> str:
    """Return why chunks were skipped, each with its share of all chunks."""
    skipped = run.ledger.skipped().items()
    return "; ".join(f"{reason or 'no reason given'}: {percent(n / run.ledger.total)}" for reason, n in skipped)


def tiling_sentence(run: Recorded) -> str:
    """Return whether the result is exact, and if it is not, by how much overlapping tiles disagree."""
    if run.plan["exact"]:
        return "The result is exact: chunk by chunk, it is what the network says of the whole image at once."
    found = overlaps(run.ledger.statistics())
    said = "The result is blended from overlapping tiles, and not exact."
    if not found or not found["overlapped"]:
        return f"{said} No voxel lies under two tiles, so their disagreement was not measured."
    return (
        f"{said} Where tiles overlap ({whole(found['overlapped'])} voxels), their scores differ by"
        f" {found['mean_spread']:.3g} in the mean and {found['largest_spread']:.3g} at most, and they give another"
        f" class in {percent(found['changed_share'])} of the voxels."
    )


def time_bars(run: Recorded) -> list[Bar]:
    """Return where the workers' time went, one bar a phase; empty while no chunk is done."""
    seconds = run.ledger.seconds
    working = _working(seconds)
    if working <= 0:
        return []
    longest = max(seconds.values())
    names = {"read": "Reading", "compute": "Network", "write": "Writing", "wait": "Waiting"}
    return [
        Bar(
            name,
            duration(seconds[phase]),
            seconds[phase] / longest,
            "for the network to be free"
            if phase == "wait"
            else f"{percent(seconds[phase] / working)} of the work",
            phase == "wait",
        )
        for phase, name in names.items()
    ]


def time_sentence(run: Recorded) -> str:
    """Return what the bars mean.

    Chunks that wait for the network mean that the network set the pace: what is read and written is ready before it.
    Without such waiting, the longest other phase did.
    """
    seconds = run.ledger.seconds
    working = _working(seconds)
    if working <= 0:
        return "No chunk has been computed yet, so there is no time to account for."
    share = {phase: seconds[phase] / working for phase in ("read", "compute", "write")}
    if seconds["wait"] > 0.1 * seconds["compute"] or share["compute"] >= 0.5:
        return (
            f"The network set the pace: it took {percent(share['compute'])} of the work, and reading and writing went"
            " on beside it, so a faster device would shorten the run and faster storage would not."
        )
    phase, name = max((("read", "Reading"), ("write", "Writing")), key=lambda each: share[each[0]])
    return (
        f"{name} set the pace: it took {percent(share[phase])} of the work and the network was seldom waited for, so"
        " faster storage or larger chunks would shorten the run and a faster device would not."
    )


def outcomes(run: Recorded) -> list[Outcome]:
    """Return plan against outcome."""
    plan, ledger = run.plan, run.ledger
    counts, peak, stored = ledger.counts(), plan["memory"]["peak"], ledger.stored_bytes
    network = ledger.seconds["compute"] / plan["workers"]
    workers = f"{plan['workers']} worker{'s' if plan['workers'] != 1 else ''}"
    packed = f"{plan['bytes_written'] / stored:.1f} times smaller by compression" if stored and run.seal else ""
    return [
        Outcome(
            "Chunks",
            whole(plan["chunks"]),
            ", ".join(f"{whole(counts[state])} {state}" for state in SHOWN_STATES if counts[state]),
            f"of {by(plan['chunk'])} voxels",
        ),
        Outcome(
            "Peak memory of a worker",
            size(peak),
            size(ledger.memory) if ledger.memory else "–",
            (f"{percent(ledger.memory / peak)} of the plan; " if ledger.memory else "")
            + f"the limit is {size(plan['memory_limit'])}",
        ),
        Outcome(
            "Time in the network", duration(plan["seconds"]), duration(network), f"{workers} on {plan['device']}"
        ),
        Outcome("From start to seal", "–", elapsed(run) or "–", "with verification, coarser levels and any pause"),
        Outcome("Stored", size(plan["bytes_written"]), size(stored), packed),
    ]


def speed(run: Recorded) -> str | None:
    """Return the voxels a second while the network ran, all chunks taken as equal; None where it has not."""
    network = run.ledger.seconds["compute"] / run.plan["workers"]
    done = run.ledger.counts()["done"] / max(1, run.ledger.total) * run.plan["voxels"]
    return about(done / network) if network > 0 else None


def elapsed(run: Recorded) -> str | None:
    """Return the time from the beginning to the seal, pauses included; None while it is not sealed."""
    found = seconds_between(run.document.get("created"), (run.seal or {}).get("sealed"))
    return None if found is None else duration(found)


def failures(run: Recorded, shown: int = 10) -> tuple[list[tuple[str, int, str]], int]:
    """Return position, attempts and error of the first failed chunks, and how many more there are."""
    found = sorted(run.ledger.failures.items())
    rows = [
        ("/".join(map(str, run.grid.position(chunk))), record.attempt, record.error or "–")
        for chunk, record in found[:shown]
    ]
    return rows, len(found) - len(rows)


def _working(seconds: dict[str, float]) -> float:
    return sum(s for phase, s in seconds.items() if phase != "wait")
