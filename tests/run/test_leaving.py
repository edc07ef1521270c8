"""A driver that is killed leaves nothing of its work on workers that live on."""

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from clusters import ended
from distributed import Client, Nanny, Scheduler, SpecCluster
from waiting import wait_until

from pipeline.run.leaving import LeaveAlone

SUPPORT = Path(__file__).parents[1] / "support"

DRIVER = """
import sys, threading
from pathlib import Path
from distributed import Client
from fakes import FakeWork
from pipeline.run import dispatch
from pipeline.run.leaving import LeaveAlone
from pipeline.run.ledger import Ledger

if __name__ == "__main__":
    root = Path(sys.argv[2])
    work = FakeWork(root / "out.zarr", (16, 16), (8, 8), name="killed")
    work.create()
    dispatch.LeaveAlone = lambda client, name: LeaveAlone(client, name, grace=0.2)
    dispatcher = dispatch.Dispatcher(Client(sys.argv[1]), work, Ledger(root / "journal", 4, epoch=1), retries=0)
    dispatcher.process(range(4))
    print("held", flush=True)
    threading.Event().wait()
"""


def held(client):
    """The works that the workers hold."""
    found = client.run(lambda dask_worker: [n for n in dask_worker.plugins if n.startswith("overtile-")])
    return [name for names in found.values() for name in names]


def watchers(client):
    return client.run_on_scheduler(lambda dask_scheduler: [n for n in dask_scheduler.plugins if "overtile" in n])


@pytest.mark.slow
def test_the_work_of_a_killed_driver_is_taken_off_the_workers(tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}}
    worker = {"cls": Nanny, "options": {"nthreads": 1, "host": "127.0.0.1", "dashboard_address": None}}
    with ExitStack() as stack:
        cluster = stack.enter_context(SpecCluster(workers={0: worker}, scheduler=scheduler))
        client = stack.enter_context(Client(cluster.scheduler_address, set_as_default=False))
        client.wait_for_workers(1, timeout=60)
        command = [sys.executable, str(tmp_path / "driver.py"), cluster.scheduler_address, str(tmp_path)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
        driver = stack.enter_context(
            ended(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        )
        assert driver.stdout.readline() == "held\n"
        (name,) = held(client)
        assert name.startswith("overtile-killed-")
        assert watchers(client) == [f"{name}-left"]
        driver.kill()
        wait_until(lambda: held(client) == [], 60)
        wait_until(lambda: watchers(client) == [], 60)
        driver.stdout.close()


def scheduler_with(*clients):
    async def unregister(*, comm, name):
        del found.worker_plugins[name]

    plugins = {"w-left": None}
    found = SimpleNamespace(clients=set(clients), worker_plugins={"w": b"", "other": b""}, plugins=plugins)
    found.unregister_worker_plugin = unregister
    found.remove_plugin = lambda name: plugins.pop(name)
    return found


def test_a_driver_that_comes_back_keeps_its_work():
    found = scheduler_with("me")
    asyncio.run(LeaveAlone("me", "w")._leave(found))
    assert set(found.worker_plugins) == {"w", "other"}
    found = scheduler_with("somebody else")
    asyncio.run(LeaveAlone("me", "w")._leave(found))
    assert (set(found.worker_plugins), found.plugins) == ({"other"}, {})


def test_others_may_come_and_go():
    calls = []
    loop = SimpleNamespace(call_later=lambda *arguments: calls.append(arguments), add_callback=None)
    watching = LeaveAlone("me", "w", grace=5)
    watching.remove_client(SimpleNamespace(loop=loop), "somebody else")
    assert calls == []
    watching.remove_client(SimpleNamespace(loop=loop), "me")
    assert [arguments[0] for arguments in calls] == [5]
