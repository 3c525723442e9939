"""Errors, retries, time-outs and connections, against a server that answers what a test says."""

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import wafer
from fake_server import FakeServer, Said, error, said
from wafer.client.transport import Transport, _was_closed, path_of


class Waits:
    """Stands for `time.sleep`, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def transport(server: FakeServer, **options: object) -> Transport:
    return Transport(server.url, **options)  # type: ignore[arg-type]


def test_errors_have_code_message_row_and_hint(server: FakeServer) -> None:
    server.answers = [error("invalid", "row 3: field `a` (int64): `x` is no number; write one")]
    with pytest.raises(wafer.Invalid) as raised:
        transport(server).get("/v1/views")
    found = raised.value
    assert (found.code, found.status, found.row) == ("invalid", 400, 3)
    assert found.hint == "write one"
    assert str(found) == "row 3: field `a` (int64): `x` is no number; write one"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "not_found", wafer.NotFound),
        (409, "conflict", wafer.Conflict),
        (403, "forbidden", wafer.Forbidden),
        (413, "invalid", wafer.Invalid),
        (408, "too_slow", wafer.TimedOut),
        (500, "function", wafer.FunctionFailed),
        (500, "internal", wafer.ServerFailed),
        (418, "of_a_later_version", wafer.Invalid),
    ],
)
def test_each_code_of_the_server_is_a_class(
    server: FakeServer, status: int, code: str, kind: type[wafer.Error]
) -> None:
    server.answers = [error(code, "no", status)]
    with pytest.raises(wafer.Error) as raised:
        transport(server).get("/v1/views")
    assert type(raised.value) is kind
    assert raised.value.code == code


def test_errors_of_the_inference_protocol_and_of_gateways_are_read(server: FakeServer) -> None:
    server.answers = [said({"error": "there is no endpoint `x`"}, 404), Said(502, b"<html>Bad")]
    with pytest.raises(wafer.NotFound, match="there is no endpoint `x`"):
        transport(server).get("/v2/models/x")
    with pytest.raises(wafer.ServerFailed, match="status 502: <html>Bad"):
        transport(server).get("/v2")


def test_text_of_an_error_cannot_control_a_terminal(server: FakeServer) -> None:
    server.answers = [error("invalid", "a\x1b[2J\u202eb\nc")]
    with pytest.raises(wafer.Invalid) as raised:
        transport(server).get("/v1/views")
    assert str(raised.value) == "a\\x1b[2J\\u202eb\nc"


def test_busy_server_is_asked_again_after_the_time_that_it_names(server: FakeServer) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    server.answers = [
        error("unavailable", "busy", 503, retry_after="2"),
        error("too_many_requests", "full", 429),
        error("unavailable", "busy", 503, retry_after=later),
        said({"views": []}),
    ]
    waits = Waits()
    patient = wafer.Retries(longest_wait=10_000)
    assert transport(server, sleep=waits, retries=patient).get("/v1/views") == {"views": []}
    assert waits.seconds[:2] == [2.0, 1.0]
    assert 3_600 < waits.seconds[2] <= 7_200
    assert len(server.asked) == 4


def test_retries_are_bounded_in_number_and_time(server: FakeServer) -> None:
    waits = Waits()
    server.always = lambda asked: error("unavailable", "busy", 503, retry_after="1")
    with pytest.raises(wafer.Busy, match="busy"):
        transport(server, sleep=waits, retries=wafer.Retries(times=2)).get("/v1/views")
    assert len(server.asked) == 3
    server.always = lambda asked: error("unavailable", "busy", 503, retry_after="3600")
    with pytest.raises(wafer.Busy, match="longest_wait"):
        transport(server, sleep=waits).get("/v1/views")
    assert (len(server.asked), waits.seconds) == (4, [1.0, 1.0])


def test_nothing_else_is_tried_again(server: FakeServer) -> None:
    waits = Waits()
    for answer in [error("internal", "no", 500), Said(closes=True), Said(body=b"123456", cut=3)]:
        server.asked.clear()
        server.answers = [answer]
        with pytest.raises(wafer.Error):
            transport(server, sleep=waits).post_json("/v1/x", b"{}")
        assert len(server.asked) == 1
    assert waits.seconds == []


def test_lost_connection_says_that_nobody_knows_what_became_of_the_request(
    server: FakeServer,
) -> None:
    server.answers = [Said(closes=True)]
    with pytest.raises(wafer.Unreachable, match="was lost before the answer") as raised:
        transport(server).get("/v1/views")
    assert raised.value.hint == "whether the request was carried out is not known"


def test_cut_body_is_an_error_also_in_a_file(server: FakeServer, tmp_path: Path) -> None:
    server.answers = [Said(body=b"x" * 100, cut=1), Said(body=b"x" * 100)]
    file = tmp_path / "out"
    with pytest.raises(wafer.Unreachable):
        transport(server).send("GET", "/v1/x", into=file)
    transport(server).send("GET", "/v1/x", into=file)
    assert file.read_bytes() == b"x" * 100


def test_time_out_is_named(server: FakeServer) -> None:
    waits = threading.Event()
    server.answers = [Said(waits=waits)]
    with pytest.raises(wafer.TimedOut, match=r"for 0.2 s"):
        transport(server, timeouts=wafer.Timeouts(answer=0.2)).get("/v1/views")
    waits.set()


def test_connection_is_kept_and_replaced_once_the_server_has_closed_it(
    server: FakeServer,
) -> None:
    one = transport(server)
    one.get("/a")
    one.get("/b")
    assert server.connections == 1
    server.answers = [Said(leaves=True)]
    one.get("/c")
    # The end of the connection takes a moment to come in.
    (connection, _), = one._idle
    while not _was_closed(connection.sock):
        time.sleep(0.01)
    one.get("/d")
    one.get("/e")
    assert server.connections == 2


def test_connection_that_was_idle_for_long_is_not_used_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = transport(server)
    one.get("/a")
    monkeypatch.setattr("wafer.client.transport.MAX_IDLE", 0.0)
    one.get("/b")
    assert server.connections == 2


def test_redirection_is_not_followed(server: FakeServer, tmp_path: Path) -> None:
    server.answers = [Said(302, b"", {"location": "http://elsewhere.example"})]
    with pytest.raises(wafer.Invalid, match="status 302"):
        transport(server, token="secret").send("GET", "/v1/x", into=tmp_path / "out")
    assert len(server.asked) == 1 and not (tmp_path / "out").exists()


def test_server_that_is_not_there_is_unreachable() -> None:
    with FakeServer() as gone:
        url = gone.url
    with pytest.raises(wafer.Unreachable, match="cannot be reached"):
        Transport(url).get("/v1/views")


def test_answer_that_is_not_json_is_an_error(server: FakeServer) -> None:
    for body in [b"[1", b"[NaN]", b"[" * 100_000, b"\xff"]:
        server.answers = [Said(body=body)]
        with pytest.raises(wafer.Unreachable, match="not JSON"):
            transport(server).get("/v1/views")


def test_file_is_sent_with_its_length(server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_bytes(b"y" * 3_000_000)
    server.answers = [error("unavailable", "busy", 503), Said()]
    transport(server, sleep=Waits()).send("POST", "/v1/x", body=file, media_type="text/csv")
    assert [len(asked.body) for asked in server.asked] == [3_000_000, 3_000_000]
    assert server.asked[0].headers["content-type"] == "text/csv"


def test_token_is_sent_and_never_in_the_clear(server: FakeServer) -> None:
    transport(server, token="secret").get("/v1/views")
    assert server.asked[0].headers["authorization"] == "Bearer secret"
    with pytest.raises(wafer.Invalid, match="in the clear"):
        wafer.connect("http://features.example.com", token="secret")
    wafer.connect("https://features.example.com", token="secret")
    with pytest.raises(wafer.Invalid, match="token"):
        wafer.connect("https://features.example.com", token="a\r\nb: c")


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8080", "ftp://a", "http://", "http://a:b", "http://u:p@a", "http://a?b", "http://a b"],
)
def test_url_that_is_none_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(wafer.Invalid):
        wafer.connect(url)


def test_path_of_a_gateway_stays_and_names_are_escaped(server: FakeServer) -> None:
    Transport(server.url + "/wafer/").get(path_of("v1", "views", "a/b?c"), [("where", "x = 1+2")])
    assert server.asked[0].path == "/wafer/v1/views/a%2Fb%3Fc?where=x%20%3D%201%2B2"
    for name in ["", "..", "."]:
        with pytest.raises(wafer.Invalid):
            path_of("v1", name)


def test_connected_server_says_what_it_has_no_route_for(server: FakeServer) -> None:
    project = wafer.connect(server.url)
    for call in [
        lambda: project.run("p"),
        lambda: project.backfill("p", "2024-01-01", "2024-01-02"),
        lambda: project.recreate("x"),
        lambda: project.functions(),
        lambda: project.apply(),
        lambda: project.release("m@1"),
        lambda: project.endpoint("e", "r1"),
        lambda: project.models.list(),
        lambda: project.models.push("m", "model.txt"),
    ]:
        with pytest.raises(wafer.NotSupported, match="the server has no route"):
            call()
    assert server.asked == []
