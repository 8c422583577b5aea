"""Headless Chromium, where a machine has it."""

import re
import shutil
import subprocess
import tempfile
from html import escape

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
# A window is at least 500 pixels wide; a frame may be as narrow as a phone.
FRAME = """<body style="margin:0">
<iframe style="border:0;height:800px;width:{width}px" srcdoc="{page}"></iframe>
<script>
onload = () => {{
  const inner = document.querySelector("iframe").contentWindow;
  const found = document.body.dataset;
  found.inner = inner.innerWidth;
  found.wide = inner.document.documentElement.scrollWidth;
  found.requests = inner.performance.getEntriesByType("resource").length;
}};
</script></body>"""


def chromium():
    """The browser's path; without one, the test that asks is skipped."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("there is no Chromium")
    return found


def run(page, *options):
    """Opens a page; returns what the browser prints."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            chromium(),
            *FLAGS,
            f"--user-data-dir={profile}",
            *options,
            page.as_uri(),
        ]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=120
        )
    return done.stdout


def dom(page):
    """The page's HTML after the browser has parsed it."""
    return run(page, "--dump-dom")


def measure(page, width):
    """Measures a page in a frame of a given width.

    Returns:
        Dict of integers: `inner`, the frame's width; `wide`, how wide the
        page's content is; `requests`, how many other files were asked for.
    """
    probe = page.with_name("probe.html")
    text = escape(page.read_text(encoding="utf-8"))
    probe.write_text(FRAME.format(width=width, page=text), encoding="utf-8")
    found = run(probe, "--window-size=1600,900", "--dump-dom")
    return {
        name: int(re.search(f'data-{name}="(\\d+)"', found)[1])
        for name in ("inner", "wide", "requests")
    }


def screenshot(page, width, height, filepath):
    """Draws a page into a PNG file."""
    run(page, f"--window-size={width},{height}", f"--screenshot={filepath}")
