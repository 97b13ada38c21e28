"""A headless Chromium for the tests of the page: Debian's, driven by selenium, never downloaded."""

import os
from pathlib import Path
from typing import NoReturn

import pytest

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
AXE = Path(__file__).parent / "browser" / "node_modules" / "axe-core" / "axe.min.js"
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing(what: str) -> NoReturn:
    """Skip, saying what to install; where `.ci/run` set CI, fail."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


def start(profile: Path):
    """A browser with an empty profile that logs its console and its requests."""
    if not (BROWSER.exists() and DRIVER.exists()):
        missing(f"no {BROWSER} with {DRIVER}: apt-get install chromium chromium-driver")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (*_FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path given, selenium looks for none and downloads none.
    return Chrome(options=options, service=Service(str(DRIVER)))


def axe() -> str:
    """The script of axe-core, which `make setup` has from npm in the version of the lock file."""
    if not AXE.exists():
        missing("no axe-core: make setup installs it where there is an npm client")
    return AXE.read_text(encoding="utf-8")
