import pytest

from flows.links import LINKS, link_to

TWO = {LINKS: "/data=https://files.example.org/d/, s3://bucket/out/ = https://objects.example.org"}


@pytest.mark.parametrize(
    ("place", "link"),
    [
        ("/data/a b.zarr.run/report.html", "https://files.example.org/d/a%20b.zarr.run/report.html"),
        ("s3://bucket/out/a.zarr.run/report.html", "https://objects.example.org/a.zarr.run/report.html"),
        ("https://example.org/report.html", "https://example.org/report.html"),
        ("/data2/report.html", None),
        ("s3://bucket/other/report.html", None),
    ],
)
def test_a_browser_gets_an_address_where_one_is_known(place, link):
    assert link_to(place, TWO) == link


def test_the_longest_prefix_counts():
    assert (
        link_to("/data/x/r.html", {LINKS: "/data=https://a.org,/data/x=https://b.org"}) == "https://b.org/r.html"
    )


def test_a_path_is_made_absolute_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert link_to("r.html", {LINKS: f"{tmp_path}=https://a.org"}) == "https://a.org/r.html"


@pytest.mark.parametrize("said", ["", "/data", "/data=", ","])
def test_nothing_that_is_said_wrongly_becomes_a_link(said):
    assert link_to("/data/r.html", {LINKS: said}) is None
