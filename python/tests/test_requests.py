"""Features, events and predictions, as they are asked for and read."""

import asyncio
import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
import wafer
from fake_server import Asked, FakeServer, Said, error, said


def of_view(kind: str) -> Any:
    """Answers a view with one feature of a type, and vectors that have the key of their row."""

    def answer(asked: Asked) -> Said:
        if asked.method == "GET":
            return said({"name": "v", "inputs": [], "features": [{"name": "x", "type": kind}]})
        rows = json.loads(asked.body)["rows"]
        vectors = [
            {
                "features": {"x": row["k"]},
                "status": {"x": "present"},
                "event_timestamp": {"g": "2024-01-02T00:00:00Z"},
            }
            for row in rows
        ]
        return said({"rows": vectors})

    return answer


def test_features_are_asked_for_in_batches_and_stay_in_order(server: FakeServer) -> None:
    server.always = of_view("int64")
    rows = [{"k": 2**60 + number} for number in range(2_500)]
    found = wafer.connect(server.url).features("v", rows)
    assert [vector["x"] for vector in found] == [row["k"] for row in rows]
    assert found[0].event_timestamp == {"g": datetime(2024, 1, 2, tzinfo=UTC)}
    sent = [len(json.loads(asked.body)["rows"]) for asked in server.asked if asked.method == "POST"]
    assert sent == [1_000, 1_000, 500]


def test_row_of_an_error_is_counted_over_all_batches(server: FakeServer) -> None:
    vectors = [{"features": {}, "status": {}, "event_timestamp": {}}] * 1_000
    server.answers = [
        said({"rows": vectors}),
        said({"features": []}),
        error("invalid", "row 7: field `k`: is missing; send it"),
    ]
    with pytest.raises(wafer.Invalid, match="^row 1007: field `k`: is missing; send it$") as raised:
        wafer.connect(server.url).features("v", [{}] * 1_500)
    assert raised.value.row == 1_007


def test_types_are_read_again_when_the_view_has_changed(server: FakeServer) -> None:
    project = wafer.connect(server.url)
    server.always = of_view("int64")
    assert project.features("v", [{"k": 1}])[0]["x"] == 1
    server.always = of_view("float64")
    assert math.isnan(project.features("v", [{"k": math.nan}])[0]["x"])
    server.always = of_view("utf8")
    assert project.features("v", [{"k": "a"}])[0]["x"] == "a"


def test_answer_with_other_rows_than_were_asked_for_is_an_error(server: FakeServer) -> None:
    server.answers = [said({"rows": []})]
    with pytest.raises(wafer.Error, match="did not answer 1 rows"):
        wafer.connect(server.url).features("v", {"k": 1})


def test_async_twin_does_the_same(server: FakeServer) -> None:
    server.always = of_view("utf8")
    project = wafer.connect(server.url)

    async def both() -> list[Any]:
        asked = [project.features_async("v", {"k": text}) for text in "ab"]
        return [found[0]["x"] for found in await asyncio.gather(*asked)]

    assert asyncio.run(both()) == ["a", "b"]


def test_failed_functions_are_told_by_row(server: FakeServer) -> None:
    row = {"features": {"x": None}, "status": {"x": "error"}, "errors": {"f": "as asked"}}
    server.answers = [said({"rows": [row]}), said({"features": [{"name": "x", "type": "int64"}]})]
    found = wafer.connect(server.url).features("v", {})
    assert found.failed == [(0, {"f": "as asked"})]
    assert found[0].status["x"] == "error"


def report(*events: dict[str, str]) -> dict[str, Any]:
    counts = dict.fromkeys(["late", "too_late", "older", "early", "duplicate"], 0)
    rejected = sum(event["status"] == "rejected" for event in events)
    return {"accepted": len(events) - rejected, "rejected": rejected, **counts, "events": list(events)}


def accepting(asked: Asked) -> Said:
    return said(report(*[{"status": "accepted"}] * len(asked.body.split(b"\n"))))


def test_events_are_pushed_in_batches_with_an_answer_for_each(server: FakeServer) -> None:
    server.always = accepting
    found = wafer.connect(server.url).push("s", ({"a": number} for number in range(2_001)))
    assert (found.accepted, found.rejected, len(found.events)) == (2_001, 0, 2_001)
    assert [asked.body.count(b"\n") + 1 for asked in server.asked] == [1_000, 1_000, 1]
    assert server.asked[0].headers["content-type"] == "application/x-ndjson"
    assert server.asked[0].path == "/v1/sources/s/events"
    server.asked.clear()
    wafer.connect(server.url).push("s", [{"a": "x" * 3_000_000}] * 3)
    assert len(server.asked) == 2
    assert wafer.connect(server.url).push("s", []).events == []


def test_rejected_events_are_an_error_with_the_report(server: FakeServer) -> None:
    first, second = [{"status": "accepted"}] * 1_000, {"status": "rejected", "error": "field `b`"}
    answers = lambda: [said(report(*first)), Said(422, json.dumps(report(second)).encode())]  # noqa: E731
    project = wafer.connect(server.url)
    server.answers = answers()
    with pytest.raises(wafer.Rejected, match="1 of 1,001 events .* event 1000: field `b`") as raised:
        project.push("s", [{}] * 1_001)
    assert raised.value.row == 1_000
    assert raised.value.report.accepted == 1_000
    server.answers = answers()
    returned = project.push("s", [{}] * 1_001, on_rejected="return")
    assert returned.rejects == [(1_000, "field `b`")]


def test_failed_push_says_what_was_accepted_before(server: FakeServer) -> None:
    server.answers = [accepting(Asked("POST", "", {}, b"\n" * 999)), error("internal", "no", 500)]
    with pytest.raises(wafer.ServerFailed) as raised:
        wafer.connect(server.url).push("s", [{}] * 1_001)
    assert "1,000 events were accepted before" in raised.value.__notes__[0]


METADATA = {
    "name": "e",
    "versions": ["r1"],
    "inputs": [
        {"name": "id", "datatype": "INT64", "shape": [-1]},
        {"name": "at", "datatype": "BYTES", "shape": [-1]},
        {"name": "v", "datatype": "FP32", "shape": [-1, 2]},
    ],
}


def test_predictions_are_asked_for_by_tensors(server: FakeServer) -> None:
    outputs = [
        {"name": "prediction", "datatype": "FP64", "shape": [2], "data": ["NaN", None]},
        {"name": "counts", "datatype": "INT64", "shape": [2, 2], "data": [2**62 + 1, 2, 3, 4]},
    ]
    answer = {
        "model_version": "r1",
        "id": "7",
        "parameters": {"errors": "row 1: no\nlines\nrow 3: of others"},
        "outputs": outputs,
    }
    server.answers = [said(METADATA), said(answer)]
    time = datetime(2024, 1, 2, tzinfo=UTC)
    rows = [{"id": 2**62 + 1, "at": time, "v": [0.5, math.nan]}, {"id": None, "at": time, "v": (1, 2)}]
    found = wafer.connect(server.url).predict("e", rows)
    assert json.loads(server.asked[1].body)["inputs"] == [
        {"name": "id", "datatype": "INT64", "shape": [2], "data": [2**62 + 1, None]},
        {"name": "at", "datatype": "BYTES", "shape": [2], "data": ["2024-01-02T00:00:00Z"] * 2},
        {"name": "v", "datatype": "FP32", "shape": [2, 2], "data": [0.5, "NaN", 1, 2]},
    ]
    assert math.isnan(found["prediction"][0]) and found["prediction"][1] is None
    assert found["counts"] == [[2**62 + 1, 2], [3, 4]]
    assert found.errors == {1: "no\nlines", 3: "of others"}
    assert (found.release, found.id, len(found)) == ("r1", "7", 2)
    assert server.asked[1].path == "/v2/models/e/infer"


def test_predictions_refuse_rows_that_do_not_fit(server: FakeServer) -> None:
    server.always = lambda asked: said(METADATA)
    project = wafer.connect(server.url)
    for rows, message in [
        ([], "there are no rows"),
        ([{"x": 1}], "no input `x`; there are id, at, v"),
        ([{"v": [1]}, {"v": [1, 2]}], "input `v`: each row has a list"),
        ([{"id": 1 + 2j}], "row 0: field `id` is of the type complex"),
        ([{"id": 1}] * 10_001, "10,001 rows are too many"),
    ]:
        with pytest.raises(wafer.Invalid, match=message):
            project.predict("e", rows)
