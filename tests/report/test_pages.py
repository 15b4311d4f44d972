"""Reports to look at: complete, self-contained, and safe whatever a model is called."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from made_reports import BASE_MS, HOSTILE, IDLE, KEPT, NEWER, report, searched

from burnish import report as reports
from burnish.driver import Result
from burnish.driver.api import Inspection
from burnish.optimizer.errors import StorageError, UsageError
from burnish.report.charts.drawing import Logarithmic, ticks
from burnish.report.numbers import amount, finite, milliseconds, size, small

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, and the texts inside of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}


@pytest.fixture(scope="module")
def page() -> str:
    return reports.page(report())


def inspected(name: str = "model") -> dict[str, Any]:
    made = report(name=name)
    return {
        "schema": 1, "producer": f"torch {name}", "least_onnxruntime": "1.23",
        "input": made["input"], "signature": {
            "inputs": [{"name": name, "dtype": "INT64", "shape": ["batch", name]}],
            "outputs": [{"name": "logits", "dtype": "FLOAT", "shape": None}],
        },
        "operators": made["operators"]["before"], "recovered": made["recovered"],
        "attentions": made["attentions"], "passes": ["int8"],
        "weights": {
            "parameters": 22_700_000,
            "types": {"FLOAT": {"tensors": 100, "elements": 22_700_000, "bytes": 90_800_000}},
        },
        "flops": {
            "total": 2.2e10, "shape": {"batch": 8, "sequence": 128}, "head": 1e8, "unknown": 0,
            "by_kind": {}, "by_operator": {},
            "by_layer": [{"layer": n, "projections": 2e9, "attention": 5e8} for n in (1, 2)],
        },
    }  # fmt: skip


def test_everything_that_is_known_is_shown(page: str) -> None:
    headings = Page(page).texts["h2"]
    assert headings == [
        "Notes", "What each pass earned", "Precisions", "Fidelity", "Layers", "Attentions",
        "Operators", "Not done, and why", "Environment",
    ]  # fmt: skip
    assert Page(page).texts["h3"] == ["Time", "Size", "Fidelity", "Time", "Error", "Nodes",
                                      "Time of kernels"]  # fmt: skip
    for told in ("2.47", "times faster", "95 % interval 2.45 to 2.49", "0.0042", "5/6"):
        assert told in page
    assert "hoist-constants</b> was rejected" in page
    assert "int8, max-drop 0.02, data /encoder" in page
    assert "1 attention" not in page
    assert "9 passes" not in page
    assert f"{len(IDLE)} passes changed nothing" in page


def test_the_points_of_a_search_stand_in_the_place_of_precisions() -> None:
    page = reports.page(report() | searched())
    headings = Page(page).texts["h2"]
    assert "Search" in headings
    assert "Precisions" not in headings
    assert "Loss over time of a run, of the input" in page
    assert "int8-prune-0.30: 0.32, loss 0.0091, 16.1 MB" in page
    assert "0.35 of the layers loses 0.02, more than 0.0075" in page


def test_a_page_asks_for_nothing(page: str) -> None:
    """No script, no request: what looks like an address is the name of SVG's language."""
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & Page(page).tags
    for _, attributes in Page(page).elements:
        assert not {"src", "href", "xlink:href", "srcset", "action"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    rest = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|url\(|@import", rest)
    (policy,) = [a["content"] for tag, a in Page(page).elements if a.get("http-equiv")]
    assert "default-src 'none'" in (policy or "")


def test_every_plot_has_a_name_and_a_description(page: str) -> None:
    plots = [attributes for tag, attributes in Page(page).elements if tag == "svg"]
    assert len(plots) == 11
    for attributes in plots:
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"] or "") > 10
    drawn = re.findall(r"<svg[^>]*><title>([^<]+)</title><desc>([^<]+)</desc>", page)
    assert len(drawn) == len(plots)
    named = [html.unescape(name) for name, _ in drawn]
    assert named == [attributes["aria-label"] for attributes in plots]


@pytest.mark.parametrize("kind", ["page", "fragment", "inspection"])
def test_names_from_a_model_stay_text(kind: str) -> None:
    made = inspected(HOSTILE) if kind == "inspection" else report(name=HOSTILE)
    text = reports.fragment(made) if kind == "fragment" else reports.page(made)
    assert text is not None
    assert not {"script", "img"} & Page(text).tags
    assert not any(name.startswith("on") for _, a in Page(text).elements for name in a)
    assert "{{ 7*7 }}" in text
    assert not set("\u202e\x00\x1b") & set(text)
    assert "\\u202egnp.exe" in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("layers", [22, 96])
def test_a_page_is_small(layers: int) -> None:
    """Of a decoder's report with thousands of refusals as well."""
    made = report(layers=layers)
    for step in made["passes"]:
        step["refusals"] *= 20
    made["fidelity"]["outputs"] |= {
        f"present.{n}.key": {"rel_l2": 0.0, "cosine": 1.0, "max_abs": 0.0} for n in range(200)
    }
    assert len(reports.page(made).encode()) < 500_000
    for index, step in enumerate(made["passes"]):
        letters = "abcdefghijklmnopqrst"
        step["refusals"] = [
            {"node": HOSTILE * 50, "reason": f"{a}{b}{index} {HOSTILE * 50}"}
            for a in letters
            for b in letters
        ]
    assert len(reports.page(made).encode()) < 5_000_000


def test_a_report_of_an_earlier_version_is_drawn() -> None:
    made = {key: value for key, value in report().items() if key not in NEWER}
    del made["memory"]["input_weights_bytes"], made["target"]["system"], made["fidelity"]["budget"]
    headings = Page(reports.page(made)).texts["h2"]
    assert "What each pass earned" in headings
    assert not {"Layers", "Attentions", "Operators"} & set(headings)


def test_a_report_in_which_nothing_was_done() -> None:
    made = report() | {"latency": None, "fidelity": None, "precisions": [], "warnings": []}
    made["passes"] = [step for step in made["passes"] if step["status"] == "unchanged"]
    made |= {"profile": None, "layers": [], "attentions": []}
    made["memory"]["input_weights_bytes"] = made["memory"]["weights_bytes"]
    text = reports.page(made)
    assert "Nothing was changed: the artifact is the input." in text
    assert "not timed" in text
    assert "not checked" in text


def test_errors_that_nobody_measured_are_not_shown_as_none() -> None:
    made = report() | {"fidelity": None, "profile": None}
    for step in made["passes"]:
        step["error"] = 0.0 if step["status"] == "kept" else None
    assert Page(reports.page(made)).texts["h3"][:3] == ["Time, place by place", "Size", "Error"]
    assert "Error made by each pass" not in reports.page(made)


def test_numbers_that_are_none_are_said() -> None:
    made = report()
    made["fidelity"]["drop"] = float("nan")
    made["fidelity"]["outputs"]["pooled"]["rel_l2"] = float("inf")
    made["passes"][5]["error"] = float("inf")
    made["layers"][1]["error"] = float("inf")
    text = reports.page(made)
    assert "not finite" in text
    assert "nan" not in "".join(Page(text).texts["text"])
    assert not re.search(r'="(nan|inf)', text)


def test_a_folder_of_graphs_has_a_part_for_each() -> None:
    export = {
        "model_type": "t5", "task": "text2text-generation", "way": "dynamo", "seconds": 12.0,
        "error": 2e-6, "tried": [], "warnings": [],
    }  # fmt: skip
    whole = {
        "schema": 1, "export": export, "parts": {"encoder": report(), "decoder": report()},
        "output": {"path": "t5.int8", "written": True, "shared_bytes": 2_000_000},
    }  # fmt: skip
    text = reports.page(whole)
    assert text.count('<article class="part">') == 2
    assert "2.00 MB that its graphs have in common" in text


def drawn(page: str, title: str) -> ElementTree.Element:
    """The plot of that title."""
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    (text,) = (plot for plot in plots if f"<title>{title}</title>" in plot)
    return ElementTree.fromstring(text.replace(' xmlns="http://www.w3.org/2000/svg"', ""))


def said(plot: ElementTree.Element, kind: str) -> list[str | None]:
    return [item.text for item in plot.iter("text") if kind in (item.get("class") or "").split()]


def test_the_waterfall_of_time_is_that_of_the_stages(page: str) -> None:
    """Each bar goes from the time before a pass to the time after it; noise is called so."""
    plot = drawn(page, "Time of a run after each pass")
    values = said(plot, "value")
    assert (values[0], values[1], values[-1]) == ("122 ms", "within noise", "49.4 ms")
    before, after = (BASE_MS / KEPT[index][4] for index in (4, 5))
    assert values[6] == f"\N{MINUS SIGN}{before - after:.1f} ms"
    bars = [
        (item.get("class"), float(item.get("x", "").strip("%")),
         float(item.get("width", "").strip("%")))
        for item in plot.iter("rect") if item.get("class") != "track"
    ]  # fmt: skip
    assert [kind for kind, *_ in bars][:3] == ["before", "noise", "gain"]
    kind, start, width = bars[6]
    assert kind == "gain"
    assert start == pytest.approx(100 / KEPT[5][4], abs=0.01)
    assert start + width == pytest.approx(100 / KEPT[4][4], abs=0.01)


def test_the_waterfall_of_size_adds_up(page: str) -> None:
    plot = drawn(page, "Bytes of weights after each pass")
    assert said(plot, "name") == ["input", "fold-affine", "int8", "6 other passes", "artifact"]
    assert said(plot, "value") == [
        "90.9 MB", "\N{MINUS SIGN}200 kB", "\N{MINUS SIGN}68.0 MB", "no change", "22.7 MB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "made",
    [{}, {"schema": 2}, {"schema": 1}, {"schema": 1, "passes": 7}, report() | {"recovered": 5},
     report() | {"latency": {"speedup": 2}}, {"schema": 1, "producer": "x"}],
)  # fmt: skip
def test_what_is_no_report_is_refused_in_a_line(made: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no report") as refused:
        reports.page(made)
    assert "\n" not in refused.value.line("report.json")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "LIBRARIES", ("jinja2", "no_such_library"))
    with pytest.raises(UsageError) as refused:
        reports.require("--html")
    assert refused.value.line("m.onnx") == (
        "error: m.onnx: --html needs jinja2 and svg.py; try pip install 'burnish[report]'"
    )
    assert Result(report(), None)._repr_html_() is None


def test_notebooks_get_an_element_with_a_style_of_its_own() -> None:
    for text in (Result(report(), None)._repr_html_(), Inspection(inspected())._repr_html_()):
        assert text is not None
        assert text.startswith('<div class="burnish">')
        assert not {"html", "body", "head"} & Page(text).tags
        (style,) = Page(text).texts["style"]
        outside = re.sub(r"\{.*\}", "", style[: style.index("[data-jp")], flags=re.DOTALL)
        assert outside.strip() == ".burnish"


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    reports.write(report(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    (tmp_path / "full").mkdir()
    with pytest.raises(StorageError):
        reports.write(report(), tmp_path / "full")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "report.html"]


def test_the_page_needs_the_data_alone(page: str) -> None:
    assert reports.page(json.loads(json.dumps(report()))) == page


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (milliseconds(0.0123), "12 \N{MICRO SIGN}s"), (milliseconds(1.5), "1.50 ms"),
        (milliseconds(49.44), "49.4 ms"), (milliseconds(999.6), "1.00 s"),
        (size(999.7e6), "1.00 GB"), (size(12), "12 B"), (size(4.4e12), "4,400 GB"),
        (small(0.0), "0"), (small(3.14e-7), "3.1e-7"), (small(0.0042), "0.0042"),
        (small(None), "not finite"), (amount(2.2e10), "22.0 GFLOP"),
    ],
)  # fmt: skip
def test_numbers(told: str, text: str) -> None:
    assert told == text


def test_scales() -> None:
    assert ticks(47.0) == [0.0, 20.0, 40.0]
    assert ticks(0.0) == [0.0]
    scale = Logarithmic([1e-7, 1e-3, 0.0])
    assert scale.share(0.0) == 0.0
    assert 0 < scale.share(1e-7) < scale.share(1e-3) <= 1
    assert finite({"a": [float("inf"), 1.0]}) == {"a": [None, 1.0]}
