"""What a run says of its chunks: with chunk, attempt and worker, and never without end."""

import logging

import pytest

from pipeline.run.heard import Message
from pipeline.run.records import DONE, FAILED, Record
from pipeline.run.voice import ALIKE, HEARD, NAMED, TOLD, Voice


@pytest.fixture
def voice(caplog):
    caplog.set_level(logging.INFO, "overtile")
    return Voice(lambda chunk: f"0/{chunk}")


def said(text, chunk=0):
    return Message(chunk, 1, "worker-0", logging.WARNING, text)


def test_a_failure_says_which_chunk_which_attempt_and_what_now(voice, caplog):
    voice.failed(Record(3, FAILED, 1, error="torn", worker="worker-1"), "trying again alone")
    voice.failed(Record(3, FAILED, 2, error="torn", worker="worker-0"), None)
    assert caplog.messages == [
        "chunk 0/3, attempt 1 failed, trying again alone: torn",
        "chunk 0/3, attempt 2 failed: torn",
    ]
    assert [(r.chunk, r.attempt, r.worker) for r in caplog.records] == [
        ("0/3", 1, "worker-1"),
        ("0/3", 2, "worker-0"),
    ]


def test_after_a_few_failures_the_rest_is_no_warning(voice, caplog):
    for chunk in range(TOLD + 3):
        voice.failed(Record(chunk, FAILED, 1, error="torn"), None)
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == TOLD + 1
    assert warned[-1].getMessage() == "more chunks fail; `overtile status` lists them all"
    assert len(caplog.records) == TOLD + 4


def test_a_chunk_that_was_done_after_all_is_told(voice, caplog):
    voice.done_alone(Record(3, DONE, 2))
    assert caplog.messages == ["chunk 0/3 is done: alone, and in as little memory as gives the same bytes"]


def test_a_worker_s_message_says_chunk_attempt_and_worker(voice, caplog):
    voice.heard([said("odd tag", chunk=5)])
    assert caplog.messages == ["chunk 0/5, attempt 1, on worker-0: odd tag"]
    assert (caplog.records[0].chunk, caplog.records[0].attempt) == ("0/5", 1)


def test_what_all_chunks_say_is_told_a_few_times(voice, caplog):
    for chunk in range(1000):
        voice.heard([said("odd tag", chunk)])
    assert len(caplog.messages) == ALIKE
    voice.heard([said("another")])
    assert len(caplog.messages) == ALIKE + 1


def test_a_million_chunks_that_all_say_something_else_are_a_bounded_number_of_lines(voice, caplog):
    for chunk in range(1000):
        voice.heard([said(f"odd tag {chunk}", chunk)])
    assert len(caplog.messages) == HEARD + 1
    assert caplog.messages[-1] == "the workers say more; it is in their own logs"
    assert len(voice._messages) <= HEARD + 1


def test_units_that_were_lost_name_a_few_chunks_and_their_attempts(voice, caplog):
    voice.died([(1, 2)])
    voice.moved("tcp://a", [(chunk, 1) for chunk in range(NAMED + 2)])
    voice.overran([(1, 1)], 2.5)
    assert caplog.messages == [
        "a worker died in the middle of 1 chunk(s): 0/1 (attempt 2); they are tried alone",
        "the worker tcp://a died or left; another one does 7 chunk(s): 0/0 (attempt 1), 0/1 (attempt 1),"
        " 0/2 (attempt 1), 0/3 (attempt 1), 0/4 (attempt 1) and 2 more",
        "1 chunk(s): 0/1 (attempt 1) not done after 2.5 s each; they are tried alone",
    ]
