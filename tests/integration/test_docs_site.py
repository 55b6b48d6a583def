"""The documentation as a site: built without network, every link checked, read in a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE)}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_it(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    made = {path.stem for path in site.glob("*.html")}
    assert pages | {"CHANGELOG", "CONTRIBUTING", "commands", "settings", "device-profiles"} <= made


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("page", ["index", "commands", "comparison", "contract", "troubleshooting"])
def test_a_page_in_a_browser(site: Path, browser: Browser, page: str, width: int) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 900})
    wrong: list[str] = []
    opened.on("request", lambda one: None if one.url.startswith(("file:", "data:")) else wrong.append(one.url))
    opened.on("console", lambda one: wrong.append(one.text) if one.type == "error" else None)
    opened.goto(f"{(site / page).as_uri()}.html")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.locator("h1").count() == 1
    assert wrong == []
    opened.close()
