"""Records to fill ledgers with, and everything that a ledger says."""

from hypothesis import strategies as st

from pipeline.run.records import DONE, FAILED, STATES, Done, Record
from pipeline.volume import Stored

TOTAL = 7

stored = st.builds(Stored, st.sampled_from(["c/0", "c/1"]), st.sampled_from(["aa", "bb"]), st.integers(0, 99))
outcomes = st.builds(
    Done,
    st.lists(stored, max_size=2).map(tuple),
    st.tuples(*[st.integers(0, 40).map(lambda n: n / 4)] * 4),
    st.none() | st.dictionaries(st.sampled_from("xy"), st.integers(0, 9).map(float), min_size=1),
    st.sampled_from([(), ("0011aabb",), ("0011aabb", "00000000")]),
)
records = st.builds(
    Record,
    chunk=st.integers(0, TOTAL - 1),
    state=st.sampled_from(STATES),
    attempt=st.integers(0, 9),
    done=outcomes,
    error=st.none() | st.just("no"),
    memory=st.integers(0, 1000),
)


def done(chunk, digest="aa", attempt=1, size=10):
    return Record(chunk, DONE, attempt, Done((Stored(f"c/{chunk}", digest, size),), (0.5, 0.25, 2.0, 1.0)))


def failed(chunk, attempt=1, error="no such chunk"):
    return Record(chunk, FAILED, attempt, error=error, kind="MissingChunkError")


def facts(ledger):
    return {
        "states": ledger.states().tolist(),
        "attempts": [ledger.attempts(chunk) for chunk in range(ledger.total)],
        "failures": list(ledger.failures.items()),
        "lacking": ledger.lacking().tolist(),
        "root": ledger.root_digest(),
        "complete": ledger.is_complete(),
        "seen": [ledger.seen(chunk) for chunk in range(ledger.total)],
        "statistics": ledger.statistics(),
        "exact seconds": ledger.seconds,
        "damaged": ledger.damaged_lines,
        **ledger.summary(),
    }
