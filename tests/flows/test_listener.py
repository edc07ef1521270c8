"""What flows show: bars that are never late, never in a hurry, and never in the way of the work."""

import threading
import uuid

import pytest
from waiting import wait_until

from flows.artifacts import FlowListener, show_link, show_markdown, show_table

NEVER = 3600.0


class Bars:
    """A board that keeps all that it is told."""

    def __init__(self):
        self.shown = {}
        self.keys = {}
        self.gate = threading.Event()
        self.gate.set()

    def create(self, key, percent, description):
        self.keys[bar := uuid.uuid4()] = key
        self.shown[key] = []
        self.update(bar, percent, description)
        return bar

    def update(self, bar, percent, description):
        self.gate.wait(30)
        self.shown[self.keys[bar]].append((percent, description))

    def draw(self, key, shown, picture, description):
        self.shown.setdefault(key, []).append((shown, picture, description))
        return shown or uuid.UUID(int=1)


class Broken:
    """A board on a server that is not there."""

    def __init__(self):
        self.asked = 0

    def create(self, key, percent, description):
        self.asked += 1
        raise ConnectionError("nobody answers")

    update = draw = create


def test_a_bar_is_shown_at_once_and_again_at_the_end_but_not_for_every_step():
    bars = Bars()
    with FlowListener("segment", "out.zarr", board=bars, interval=NEVER) as listener:
        listener.phase("predict", 2000, "chunks")
        wait_until(lambda: "segment-predict" in bars.shown)
        for done in range(1, 1001):
            listener.progress(done, failed=2)
    shown = bars.shown["segment-predict"]
    assert shown[0] == (0.0, "0 of 2,000 chunks · out.zarr")
    assert shown[-1] == (50.0, "1,000 of 2,000 chunks, 2 failed · out.zarr")
    assert len(shown) == 2


def test_bars_move_while_the_work_goes_on():
    bars = Bars()
    with FlowListener("train", "m", board=bars, interval=0.0) as listener:
        listener.phase("train", 3, "steps")
        for done in (1, 2, 3):
            listener.progress(done)
            wait_until(
                lambda done=done: bars.shown.get("train-train", [()])[-1][:1] == (pytest.approx(100 * done / 3),)
            )


def test_speed_and_time_left_are_told_and_count_from_where_the_work_began(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("flows.artifacts.time.monotonic", lambda: clock[0])
    bars = Bars()
    with FlowListener("segment", "s3://me:c4n4ry@b/out.zarr", board=bars, interval=NEVER) as listener:
        listener.phase("predict", 1000, "chunks")
        listener.progress(400)
        listener.follow(voxels=1e6, picture=lambda: ("data:image/png;base64,", ""))
        clock[0] = 10.0
        listener.progress(480, 20)
    text = "480 of 1,000 chunks, 20 failed · 10 chunks/s, 10 M voxel/s · 50 s left · s3://***@b/out.zarr"
    assert bars.shown["segment-predict"][-1] == (48.0, text)


def test_a_picture_is_drawn_at_the_beginning_and_at_the_end_in_the_same_place():
    bars, drawn = Bars(), []
    with FlowListener("segment", "o", board=bars, interval=0.0) as listener:
        listener.phase("predict", 3, "chunks")
        listener.follow(voxels=1, picture=lambda: drawn.append(1) or (f"picture {len(drawn)}", "3 done"))
        for done in (1, 2, 3):
            listener.progress(done)
            wait_until(lambda: "segment-grid" in bars.shown)
    first = (None, "picture 1", "3 done · o")
    assert bars.shown["segment-grid"] == [first, (uuid.UUID(int=1), "picture 2", "3 done · o")]


def test_a_picture_that_cannot_be_drawn_is_no_error(caplog):
    def fail():
        raise RuntimeError("no paint")

    with FlowListener("segment", "o", board=Bars(), interval=0.0) as listener:
        listener.phase("predict", 3, "chunks")
        listener.follow(voxels=1, picture=fail)
        listener.progress(1)
    assert "progress cannot be shown (RuntimeError: no paint)" in caplog.text


def test_each_phase_has_a_bar_and_what_was_not_shown_in_time_is_shown_at_the_end():
    bars = Bars()
    with FlowListener("segment", "o", board=bars, interval=NEVER) as listener:
        for name, total in (("predict", 4), ("verify", 8), ("pyramid", 0)):
            listener.phase(name, total, "units")
            listener.progress(total)
    assert {key: shown[-1][0] for key, shown in bars.shown.items()} == {
        "segment-predict": 100.0,
        "segment-verify": 100.0,
        "segment-pyramid": 100.0,
    }


def test_a_slow_server_does_not_hold_up_the_work():
    bars = Bars()
    bars.gate.clear()
    with FlowListener("segment", "o", board=bars, interval=0.0) as listener:
        listener.phase("predict", 100, "chunks")
        for done in range(101):
            listener.progress(done)
        assert bars.shown.get("segment-predict", []) == []
        bars.gate.set()
    assert bars.shown["segment-predict"][-1][0] == 100.0


def test_a_server_that_does_not_answer_is_complained_of_once(caplog):
    board = Broken()
    with FlowListener("segment", "o", board=board, interval=0.0) as listener:
        listener.phase("predict", 10, "chunks")
        for done in range(11):
            listener.progress(done)
            wait_until(lambda done=done: board.asked > min(done, 2))
    messages = [record.getMessage() for record in caplog.records if record.name == "overtile"]
    assert messages == ["progress cannot be shown (ConnectionError: nobody answers); the work goes on"]


def test_many_threads_may_report():
    bars = Bars()
    with FlowListener("segment", "o", board=bars, interval=0.0) as listener:
        listener.phase("predict", 400, "chunks")
        threads = [threading.Thread(target=lambda: [listener.progress(n) for n in range(401)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert bars.shown["segment-predict"][-1][0] == 100.0


def test_notes_are_logged(caplog):
    caplog.set_level("INFO", "overtile")
    with FlowListener("segment", "o", board=Bars()) as listener:
        listener.note("100 % of it is there already")
    assert "100 % of it is there already" in caplog.messages


@pytest.mark.parametrize(
    "show",
    [
        lambda key: show_markdown(key, "text", "what it is"),
        lambda key: show_table(key, [{"a": 1}], "a table"),
        lambda key: show_link(key, "page.html", "a page"),
    ],
)
def test_an_artifact_that_cannot_be_made_is_no_error(show, caplog):
    show("Not A Key")  # refused by Prefect's own check, before any server is asked
    assert len(caplog.records) == 1
    assert "the artifact Not A Key cannot be shown" in caplog.text
