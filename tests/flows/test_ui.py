"""What an operator sees: Prefect's own pages, in a real browser, before, during and after a run that is mended.

With ``OVERTILE_PICTURES=docs/images`` the pictures that the guide shows are made anew.
"""

import dataclasses
import json
import os
import tempfile
import urllib.request
from pathlib import Path

import pytest
from browser import browser, needs_chromium
from networks import make_checkpoint, make_image
from servers import end, new_server
from waiting import wait_until

from pipeline.run.status import status

pytestmark = [pytest.mark.slow, needs_chromium]

ROOT = Path(__file__).parents[2]
GUIDE = ("form", "run")
"""The pictures of the guide."""

THEIRS = ("/favicon", ".svg", "/api/task_runs/filter")
"""What Prefect's own pages ask for in vain: their icons, and the task run of an artifact that has none."""


@pytest.fixture(scope="module")
def archive():
    """An image of a hundred chunks, of which one is lost, in a folder whose name is fit to be shown."""
    with tempfile.TemporaryDirectory(prefix="archive-") as folder:
        place = Path(folder)
        make_image(place / "slide.zarr", (640, 640), channels=1, shard=(64, 64))
        make_checkpoint(place / "model.safetensors", depth=2, width=4, padding="same", norm="batch")
        (place / "slide.zarr" / "0" / "c" / "0" / "3" / "6").rename(place / "lost")
        yield place


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The address of a server with pages, all deployments and a worker, made as the guide says."""
    home = tmp_path_factory.mktemp("pages")
    shown = {
        "PREFECT_SERVER_UI_ENABLED": "true",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "static"),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    server = new_server(home)
    server = dataclasses.replace(server, environment=server.environment | shown)
    running = server.start()
    try:
        template = "deployments/pools/process.json"
        server.prefect(
            "work-pool", "create", "overtile", "--type", "process", "--base-job-template", template, cwd=ROOT
        )
        server.prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml", cwd=ROOT)
        with server.process("worker", "start", "--pool", "overtile"):
            yield server.url.removesuffix("/api")
    finally:
        end(running)


@pytest.fixture
def window(tmp_path, pages):
    with browser(tmp_path / "profile") as opened:
        yield opened
        faults = [each for each in opened.faults if not any(known in each for known in THEIRS)]
        assert faults == []


@pytest.fixture
def picture(tmp_path):
    """Where a picture goes, by its name."""
    wanted = os.environ.get("OVERTILE_PICTURES")

    def place(name):
        return (ROOT / wanted if wanted and name in GUIDE else tmp_path) / f"{name}.png"

    return place


def ask(pages, kind, **wanted):
    """What the server has of a kind."""
    asked = urllib.request.Request(
        f"{pages}/api/{kind}/filter", json.dumps(wanted).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


def found(pages, kind):
    """What the server has of a kind, by name or key."""
    return {each.get("key") or each.get("name"): each for each in ask(pages, kind)}


def see_event(pages, window, name, *texts):
    """Open the page of an event; the feed itself shows an event a minute later."""
    known = wait_until(lambda: ask(pages, "events", filter={"event": {"name": [name]}})["events"], seconds=120)
    window.open(f"{pages}/v2/events/event/{known[0]['occurred'][:10]}/{known[0]['id']}", name, *texts)


def test_every_deployment_is_listed_and_says_what_it_does(pages, window):
    window.open(f"{pages}/v2/deployments", *found(pages, "deployments"), "At 02:00 AM")
    for name, each in found(pages, "deployments").items():
        window.open(f"{pages}/v2/deployments/deployment/{each['id']}?tab=Description", each["description"], name)


def fill(window, field, text, kind="str"):
    """Write into a field of a form; where it may be left out, choose what it is first."""
    label = window.page.get_by_text(f"{field} (Optional)", exact=True)
    if label.count() == 0:
        window.page.get_by_label(field, exact=True).fill(text)
        return
    whole = label.locator("xpath=ancestor::div[.//*[normalize-space()='None']][1]")
    whole.get_by_text(kind, exact=True).click()
    whole.locator("textarea, input").first.fill(text)


def begin(pages, window, archive, picture):
    """Start a run by the form of its deployment, and go to its page."""
    deployment = found(pages, "deployments")["segment"]["id"]
    window.open(
        f"{pages}/v2/deployments/deployment/{deployment}/run",
        *("input, output and model are needed", "image to segment: Zarr, slide", "checkpoint (.safetensors)"),
        *("Pixel size (Optional)", "TLS CA (Optional)", "regions (Optional)", "with_report (Optional)"),
    )
    fill(window, "Input", f"{archive}/slide.zarr")
    fill(window, "Output", f"{archive}/nuclei.zarr")
    fill(window, "Model", f"{archive}/model.safetensors")
    fill(window, "Chunk", "64,64")
    fill(window, "regions", "4", kind="int")
    window.page.mouse.wheel(0, -10_000)
    window.keep(picture("form"))
    window.click("button", "Submit")
    window.click("button", "View run")


@pytest.mark.timeout(1800)
def test_a_run_fails_is_understood_and_is_mended(pages, window, archive, picture):
    begin(pages, window, archive, picture)
    window.see("segment nuclei.zarr", "Running", "Failed", alone=True)
    window.click("tab", "Task Runs")
    window.see("plan", "prepare", "region 1 of 4", "region 4 of 4")
    window.click("tab", "Details")
    window.see("9 of 100 chunks failed, 0 are pending", "1 stored chunk(s) below voxels")
    window.click("tab", "Artifacts")
    window.see(
        "91 of 100 chunks, 9 failed", "91 done (blue), 9 failed (orange)", "what tries the failed chunks again"
    )

    shown = found(pages, "artifacts")
    at = f"{pages}/v2/artifacts/artifact"
    window.open(f"{at}/{shown['segment-predict']['id']}", "Progress: 91%")
    window.open(f"{at}/{shown['segment-grid']['id']}", "91 done (blue), 9 failed (orange)")
    (grid,) = window.page.locator("img[src^='data:image/png']").all()
    assert grid.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [320, 320]
    window.keep(picture("grid"))
    window.open(f"{at}/{shown['segment-failed-chunks']['id']}", "2/5", "1 stored chunk(s) below", "attempts")
    window.keep(picture("failed"))
    window.open(f"{at}/{shown['segment-rerun']['id']}", f"overtile rerun {archive}/nuclei.zarr")
    window.see("prefect deployment run rerun-failed/rerun-failed")
    window.keep(picture("rerun"))
    see_event(pages, window, "overtile.run.failed", f"{archive}/nuclei.zarr")
    window.keep(picture("events"))

    (archive / "lost").rename(archive / "slide.zarr" / "0" / "c" / "0" / "3" / "6")
    (run,) = found(pages, "flow_runs").values()
    window.open(f"{pages}/v2/runs/flow-run/{run['id']}", "segment nuclei.zarr", "Failed")
    window.click("button", "Open menu")
    window.click("menuitem", "Retry")
    window.click("button", "Retry")
    window.see("Completed", alone=True)
    window.open(f"{pages}/v2/runs/flow-run/{run['id']}", "segment nuclei.zarr")
    window.click("tab", "Artifacts")
    window.see("100 of 100 chunks", "100 done (blue)", f"{archive}/nuclei.zarr.run/report.html")
    window.keep(picture("run"))
    assert status(archive / "nuclei.zarr")["state"] == "sealed"
    see_event(pages, window, "overtile.run.sealed", f"{archive}/nuclei.zarr")
