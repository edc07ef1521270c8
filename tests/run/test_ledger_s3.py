import pytest
from ledgers import TOTAL, done, facts, failed
from s3 import S3Server

import pipeline.run.journal as journal_module
from pipeline.errors import StoreError
from pipeline.run.compact import compact
from pipeline.run.ledger import Ledger
from pipeline.run.parts import last_epoch
from pipeline.store import open_place

pytestmark = pytest.mark.slow


@pytest.fixture
def s3():
    with S3Server() as server:
        yield server


def test_a_ledger_on_an_object_store(s3, monkeypatch):
    monkeypatch.setattr(journal_module, "GROUP_RECORDS", 2)
    place = open_place(s3.url("run")).at("journal")
    ledger = Ledger(place, TOTAL, epoch=1)
    for chunk in range(4):
        ledger.append([failed(chunk) if chunk == 2 else done(chunk)])
    ledger.close()
    assert facts(Ledger(place, TOTAL)) == facts(ledger)
    assert sorted(entry.key for entry in place.entries()) == [
        "000001.jsonl/00000001",
        "000001.jsonl/00000002",
        "index",
    ]
    again = Ledger(place, TOTAL, epoch=2)
    again.append([done(2, attempt=2), done(4)])
    again.sync()
    assert facts(Ledger(place, TOTAL)) == facts(again), "an index, and an object after it"
    again.close()
    compact(place, TOTAL, 2)
    assert [entry.key for entry in place.entries()] == ["compact-000002.jsonl/00000001-end"]
    assert facts(Ledger(place, TOTAL)) == facts(again)
    assert last_epoch(place) == 2


def test_a_group_that_the_store_refuses_waits(s3, monkeypatch):
    monkeypatch.setattr(journal_module, "GROUP_SECONDS", 3600.0)
    place = open_place(s3.url("run")).at("journal")
    ledger = Ledger(place, TOTAL, epoch=1)
    ledger.append([done(0)])
    s3.fail(1, "503", count=None, method="PUT")
    with pytest.raises(StoreError):
        ledger.sync()
    assert Ledger(place, TOTAL).lacking().tolist() == list(range(TOTAL))
    s3.heal()
    ledger.close()
    assert Ledger(place, TOTAL).state(0) == "done"
