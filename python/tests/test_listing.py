"""Lists and records, as notebooks and terminals show them."""

import pytest
import wafer
from fake_server import FakeServer, said
from wafer.client.listing import Record, html_table, records, text_table

EVIL = '<img src=x onerror="alert(1)">\x1b[2J\u202e'


def test_everything_in_html_is_escaped(server: FakeServer) -> None:
    group = {
        "name": EVIL,
        "doc": EVIL,
        "keys": [{"name": EVIL, "type": "utf8"}],
        "features": [],
        "views": [EVIL],
    }
    server.always = lambda asked: said({"groups": [group]} if asked.path == "/v1/groups" else group)
    project = wafer.connect(server.url)
    for shown in [project.groups(), project.group("g"), records("view", [group], [EVIL])]:
        html = shown._repr_html_()
        assert "<img" not in html and 'onerror="' not in html
        assert "\x1b" not in html and "\u202e" not in html
        assert "\x1b" not in repr(shown)
    assert "&lt;img" in project.groups()._repr_html_()


def test_things_are_found_by_number_and_name() -> None:
    views = records("view", [{"name": "a", "doc": "x"}, {"name": "b", "doc": None}], ["name", "doc"])
    assert views["b"].doc is None and views[0]["name"] == "a" and len(views[0:1]) == 1
    assert views.names == ["a", "b"]
    with pytest.raises(wafer.NotFound, match="there is no view `c`; known are a, b"):
        views["c"]
    with pytest.raises(AttributeError, match="a view has no `x`; it has name, doc"):
        _ = views[0].x


def test_long_lists_and_texts_are_cut() -> None:
    rows = [[number, "x" * 10_000] for number in range(1_000)]
    html = html_table(["a", "b"], rows)
    assert "and 800 more" in html and len(html) < 200_000
    assert "and 800 more" in text_table(["a", "b"], rows)


def test_lists_of_objects_in_a_record_are_tables_of_their_own() -> None:
    record = Record("view", {"name": "v", "features": [{"name": "x", "type": "int64"}], "doc": ""})
    assert record.features[0]["name"] == "x"
    assert "<caption>features</caption>" in record._repr_html_()
    assert "doc" not in repr(record)
