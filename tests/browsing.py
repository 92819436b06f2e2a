"""Browsing as a person does: signing in with a key, and checking a page for faults."""

import os
from importlib.resources import files
from pathlib import Path

from playwright.sync_api import Page, expect

# Playwright's own 5 s suit a machine that does nothing else.
expect.set_options(timeout=30_000)

SIZES = {"wide": {"width": 1280, "height": 850}, "narrow": {"width": 390, "height": 844}}
_AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
_SHOTS = os.environ.get("SCREENSHOTS")
"""A folder for pictures of every page, to be looked at."""


def enter_key(page: Page, key: str) -> None:
    """Sign in, and leave the page at the first one that this key's role is shown."""
    page.goto("/app/sign-in")
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def find_faults(page: Page, name: str) -> list[str]:
    """Return what axe finds on the page as it is now, and whether it is wider than its window."""
    if _SHOTS:
        page.screenshot(path=Path(_SHOTS) / f"page{name}.png", full_page=True)
    page.context.new_cdp_session(page).send("Runtime.evaluate", {"expression": _AXE})
    found = page.evaluate("axe.run()")["violations"]
    faults = [f"{name}: {fault['impact']} {fault['id']} {fault['help']}" for fault in found]
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        faults.append(f"{name} is too wide")
    return faults
