"""What is there is told alike by a listing and by asking for each object."""

from web import WebServer

from pipeline.store import open_place, survey


def test_a_place_without_listings_is_asked_key_by_key(tmp_path):
    place = open_place(tmp_path)
    for i in range(5):
        place.put(f"a/{i}", b"x" * i)
    keys = [f"a/{i}" for i in range(3, 3000)]
    assert {e.key for e in survey(place, keys)} == {f"a/{i}" for i in range(5)}
    with WebServer(tmp_path.parent) as web:
        found = {e.key: e.stat.size for e in survey(open_place(web.url(tmp_path.name)), keys[:40])}
    assert found == {"a/3": 3, "a/4": 4}
