"""A real browser for tests of pages: the chromium of the system, without a window, that reaches loopback alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Response, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
"""What the program may be called."""

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SIZE = (1400, 900)
"""Pixels of the window."""

PATIENCE = 240_000
"""Milliseconds that a page may take to show something."""


class Browser:
    """One window, and what has gone wrong in it.

    Attributes:
        page: the window's page, as playwright has it.
        faults: exceptions and console errors of pages, and answers of loopback servers that are errors.
    """

    def __init__(self, context: BrowserContext) -> None:
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        self.page: Page = context.pages[0]
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        self.page.on("console", self._heard)
        self.page.on("response", self._answered)

    def open(self, address: str, *texts: str) -> None:
        """Go to a page, and wait until it shows all of these texts."""
        self.page.goto(address, wait_until="domcontentloaded")
        self.see(*texts)

    def see(self, *texts: str, alone: bool = False) -> None:
        """Wait until the page shows all of these texts; each one somewhere alone, where that is asked for."""
        for text in texts:
            expect(self.page.get_by_text(text, exact=alone).locator("visible=true").first).to_be_visible()

    def click(self, role: str, name: str) -> None:
        """Click on the first thing of this role that bears this name exactly."""
        self.page.get_by_role(role, name=name, exact=True).first.click()

    def keep(self, path: Path) -> None:
        """Keep a picture (PNG) of what is to be seen, when nothing in it moves any more, or after a while."""
        self.page.wait_for_load_state("networkidle")
        shown, before, tries = self.page.screenshot(), b"", 0
        while shown != before and tries < 8:
            before, tries = shown, tries + 1
            shown = self.page.screenshot()
        path.write_bytes(shown)

    def _heard(self, message: ConsoleMessage) -> None:
        """Note an error of the console; what could not be loaded is noted by :meth:`_answered`."""
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.faults.append(f"console: {message.text}")

    def _answered(self, response: Response) -> None:
        address = urlsplit(response.url)
        if response.status >= 400 and address.hostname == "127.0.0.1":
            self.faults.append(f"{response.status} {address.path}")


def chromium() -> str | None:
    """Return where the program is; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


needs_chromium = pytest.mark.skipif(
    chromium() is None, reason="no chromium on this machine: apt-get install chromium"
)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Have a browser with a profile of its own, in a test that :data:`needs_chromium`.

    Args:
        folder: for the profile; empty or not there.
    """
    width, height = SIZE
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder,
            executable_path=chromium(),
            headless=True,
            args=list(FLAGS),
            viewport={"width": width, "height": height},
            color_scheme="light",
        )
        try:
            yield Browser(context)
        finally:
            context.close()
