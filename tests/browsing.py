"""Signing in with a key, as a person does in a browser."""

from playwright.sync_api import Page


def enter_key(page: Page, key: str) -> None:
    """Leave the page at the first one that this key's role is shown."""
    page.goto("/app/sign-in")
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()
