"""The page of many runs, as a browser reads it."""

import re
from html.parser import HTMLParser

import pytest
from evaluations import evaluation, summary

from pipeline.config import AggregateJob
from pipeline.evaluation.bootstrap import Resampling, chunk_intervals
from pipeline.evaluation.overall import overall
from pipeline.evaluation.rows import broken_row, evaluation_row, in_order, run_row
from pipeline.evaluation.trend import Series
from pipeline.reporting import overall_page as page_module
from pipeline.reporting.overall_page import overall_page

EVIL = "<img src=x onerror=alert(1)>$&\"'"
HOW = Resampling(resamples=200)
VOID = {"meta", "img", "source"}


class Page(HTMLParser):
    def __init__(self, source):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += " " + data

    def all(self, tag):
        return [attributes for each, attributes in self.elements if each == tag]

    def says(self, text):
        return text in " ".join(self.text.replace("\u00a0", " ").split())


def at(n, source, **changes):
    return evaluation([[[10 - n, n], [n, 10 - n]], [[12 - n, n], [n, 10 - n]]], source=source, **changes)


def make(several, *, extra=(), names=None, before=None, **options):
    job = AggregateJob(sources=["x"], out="t.parquet", **options)
    names = names or {each.model: each.model.removeprefix("sha256:") for each in several if each.model}
    intervals = {each.source: chunk_intervals(each.counts.counts, each.counts.names, HOW) for each in several}
    rows = [
        evaluation_row(each, intervals[each.source], model=names.get(each.model), settings=[]) for each in several
    ]
    found = overall(job, several, names=names, before=before or {}, resampling=HOW)
    return Page(overall_page(found, in_order([*rows, *extra]), intervals))


@pytest.fixture(scope="module")
def full():
    several = [
        at(1, "e1", model="old", target="t"),
        at(2, "e2", model="old", target="u"),
        at(0, "e3", model="new", target="t", sealed="2026-05-04T00:00:00Z"),
        at(1, "e4", model="new", target="u", sealed="2026-05-04T00:00:00Z"),
        at(3, "e5", model="new", target="u", sealed="2026-05-06T00:00:00Z"),
        at(3, "e6", model="new", target="only", sealed="2026-05-06T00:00:00Z"),
        at(3, "e7", model=None),
    ]
    extra = [broken_row("/b", "because"), run_row(summary(), model="m", settings=[])]
    gone = {Series("/models/gone", "abcdef", None, None): {}}
    return make(several, extra=extra, before=gone, bounds={"mean_iou": 0.6})


def test_the_page_loads_nothing_and_runs_nothing(full):
    tags = {tag for tag, _ in full.elements}
    assert tags.isdisjoint({"script", "link", "iframe", "object", "a", "base", "form"})
    for _, attributes in full.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:image/").startswith("data:image/")
    policies = [each for each in full.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0]["content"].startswith("default-src 'none'")


def test_it_says_what_there_is(full):
    assert full.says("7 evaluations")
    assert full.says("2 models")
    assert full.says("3 volumes with a target")
    assert full.says("1 runs without an evaluation")
    assert full.says("1 that cannot be read")
    assert full.says("old 2 0.753")
    assert full.says("new 3 0.703")
    assert full.says("new old mean_iou 2") or full.says("old new mean_iou 2")
    assert full.says("/b because")
    assert full.says("e6 old the other model was not evaluated on this target")
    assert full.says("e7 any other the prediction has no run that tells its model")
    assert full.says("/models/gone: all of target abcdef")
    assert full.says("200 bootstrap resamples (seed 0)")


def test_what_is_to_be_looked_at_stands_first(full):
    assert full.says("to look at A metric is below its bound")
    assert full.text.index("below its bound 0.6") < full.text.index("Digest")


def test_plots_are_there_for_light_and_dark_pages(full):
    pictures = full.all("img")
    assert len(pictures) == 3, "each volume, differences, over time"
    assert all(each["alt"] and int(each["width"]) > int(each["height"]) > 0 for each in pictures)
    sources = full.all("source")
    assert [each["media"] for each in sources] == ["(prefers-color-scheme: dark)"] * 3
    assert all(a["srcset"] != b["src"] for a, b in zip(sources, pictures, strict=True))


def test_every_name_is_escaped():
    several = [
        at(1, EVIL, model="a", target=EVIL, region=EVIL),
        at(0, EVIL + "2", model="b", target=EVIL, region=EVIL, names=(EVIL, "b")),
    ]
    extra = [broken_row(EVIL, EVIL), run_row(summary(input=EVIL), model=EVIL, settings=[])]
    names = {"sha256:a": EVIL, "sha256:b": EVIL + "b"}
    page = make(several, extra=extra, names=names, bounds={"accuracy": 1.0, f"iou_{EVIL}": 1.0})
    assert page.says(EVIL)
    assert not [each for each in page.all("img") if each.get("src") == "x"]


def test_without_evaluations_there_is_nothing_to_compare():
    page = make([], extra=[run_row(summary(), model="m", settings=[])])
    assert page.says("No evaluation tells its model and its target")
    assert page.all("img") == []


def test_metrics_that_are_not_defined_are_dashes():
    page = make([evaluation([[[0, 0], [0, 0]]] * 2)])
    assert page.says("m 1 – – –")
    assert page.all("img") == []


def test_long_tables_are_cut_and_counted(monkeypatch):
    monkeypatch.setattr(page_module, "SHOWN", 2)
    several = [at(2, f"e{n}", model="ab"[n % 2], target=f"t{n}") for n in range(5)]
    page = make(several, bounds={"accuracy": 1.0})
    assert page.says("And 3 more, in the Parquet table")
    assert len(re.findall("And 3 more; overtile aggregate --json", " ".join(page.text.split()))) == 2
    assert page.says("5 to look at")
