"""What a run asks of the server, counted on the wire: it does not grow with the number of chunks."""

import pytest

from benchmarks.prefect_calls import BY_TIME, REGIONS, count_calls, steady
from benchmarks.relay import Requests

MOST = 30
"""Calls that a run makes, besides those that grow with its time."""

PARTS = 4
"""Artifacts that are updated: a bar for each of three phases, and the picture."""


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_requests_are_found_however_they_are_cut(cut):
    run = "0123abcd-0123-4567-89ab-0123456789ab"
    sent = (
        f"POST /api/flow_runs/{run}/set_state?a=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\nGET /no HTTP/1.1\r\n"
        "GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n"
        "GET /api/events/in HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
        "\x81\x05 GET / HTTP/1.1\r\n\r\n"
    ).encode("latin-1")
    requests = Requests()
    for start in range(0, len(sent), cut):
        requests.feed(sent[start : start + cut])
    assert requests.found == [
        "POST /api/flow_runs/{id}/set_state",
        "GET /api/health",
        "WEBSOCKET /api/events/in",
    ]


def test_a_body_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match=r"POST /a HTTP/1\.1: a body of unknown length"):
        Requests().feed(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_calls_do_not_grow_with_the_chunks(server, tmp_path):
    counted = {side * side: count_calls(tmp_path, side, server.url) for side in (4, 16, 32)}
    lasting = {chunks: steady(calls) for chunks, (calls, _) in counted.items()}
    assert lasting[16] == lasting[256] == lasting[1024]
    assert lasting[16]["POST /api/flow_runs/"] == 1, "what is counted is the run"
    assert lasting[16].total() <= MOST
    for calls, seconds in counted.values():
        assert calls["PATCH /api/artifacts/{id}"] <= seconds + PARTS, (
            "at most one a second, and a last one of each"
        )
        assert calls["POST /api/logs/"] <= seconds + PARTS
        assert sum(calls[name] for name in BY_TIME) > 0
    assert REGIONS < 16, "fewer regions than chunks"
