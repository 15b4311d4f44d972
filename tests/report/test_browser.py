"""The page in a real browser: it fits a phone, follows light and dark, and asks for nothing."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from made_reports import HOSTILE, report

from burnish import report as reports

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")

LOOK = """
<script>
addEventListener("load", () => {
  const told = [...document.querySelectorAll("iframe")].map((frame) => {
    const page = frame.contentDocument, root = page.documentElement;
    const boxes = (kind) => [...page.querySelectorAll(kind)].map((e) => e.getBoundingClientRect());
    const wide = [...page.querySelectorAll("main *")].filter(
      (e) => e.getBoundingClientRect().right > frame.clientWidth + 1 && !e.closest("svg"));
    return {
      width: frame.clientWidth, needed: root.scrollWidth,
      wide: wide.map((e) => e.tagName + "." + e.className),
      plots: boxes("svg").map((box) => [box.width, box.height]),
      texts: [...page.querySelectorAll("svg.plot text")].filter((e) => {
        const box = e.getBoundingClientRect();
        return box.left < -1 || box.right > frame.clientWidth + 1;
      }).map((e) => e.textContent),
      paper: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
      ink: frame.contentWindow.getComputedStyle(page.body).color,
      scripts: page.scripts.length, asked: frame.contentWindow.performance
        .getEntriesByType("resource").length,
    };
  });
  document.getElementById("told").textContent = JSON.stringify(told);
});
</script><pre id="told"></pre>
"""


def looked_at(folder: Path, pages: list[tuple[str, int]], *, dark: bool = False) -> list[Any]:
    """What a browser makes of pages in frames of some widths."""
    style = "height:800px;border:0;width:"
    frames = "".join(
        f'<iframe style="{style}{width}px" srcdoc="{html.escape(text)}"></iframe>'
        for text, width in pages
    )
    (folder / "look.html").write_text(f'<!doctype html><meta charset="utf-8">{frames}{LOOK}')
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--user-data-dir={folder / 'profile'}", "--dump-dom", str(folder / "look.html"),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    (told,) = re.findall(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    return list(json.loads(html.unescape(told)))


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    plain, hostile = reports.page(report(layers=22)), reports.page(report(name=HOSTILE))
    pages = [(plain, 360), (plain, 1200), (hostile, 360), (plain, 768)]
    return looked_at(tmp_path_factory.mktemp("light"), pages)


def test_nothing_sticks_out_at_any_width(light: list[Any]) -> None:
    for found in light:
        assert found["needed"] <= found["width"], found["wide"]
        assert found["wide"] == []
        assert found["texts"] == []


def test_every_plot_is_drawn(light: list[Any]) -> None:
    for found in light:
        assert len(found["plots"]) == 11
        assert min(width for width, _ in found["plots"]) > 100
        assert min(height for _, height in found["plots"]) > 50


def test_nothing_runs_and_nothing_is_asked_for(light: list[Any]) -> None:
    assert {(found["scripts"], found["asked"]) for found in light} == {(0, 0)}


def test_light_and_dark(light: list[Any], tmp_path: Path) -> None:
    (dark,) = looked_at(tmp_path, [(reports.page(report()), 360)], dark=True)
    assert brightness(light[0]["paper"]) > 0.9 > 0.2 > brightness(light[0]["ink"])
    assert brightness(dark["paper"]) < 0.15 < 0.8 < brightness(dark["ink"])


def brightness(color: str) -> float:
    """The mean of a colour's parts, 0 to 1."""
    return sum(map(int, re.findall(r"\d+", color)[:3])) / 3 / 255
