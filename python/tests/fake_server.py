"""A server that answers what a test says, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Said:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    closes: bool = False
    """Whether the connection is closed without an answer."""
    cut: int = 0
    """How many bytes of the body are not sent."""
    waits: threading.Event | None = None
    leaves: bool = False
    """Whether the connection is closed after the answer, which does not say so."""


def said(value: Any, status: int = 200, **headers: str) -> Said:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Said(status, json.dumps(value).encode(), named)


def error(code: str, message: str, status: int = 400, **headers: str) -> Said:
    return said({"error": {"code": code, "message": message}}, status, **headers)


class FakeServer:
    """Answers with what `answers` has, one after the other, and then with `always`."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: list[Said] = []
        self.always: Callable[[Asked], Said] = lambda asked: Said()
        self.connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def answer(self) -> None:
                length = int(self.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, self.rfile.read(length))
                outer.asked.append(asked)
                answer = outer.answers.pop(0) if outer.answers else outer.always(asked)
                if answer.waits is not None:
                    answer.waits.wait(10)
                if answer.closes:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body[: len(answer.body) - answer.cut])
                self.close_connection = answer.leaves or answer.cut > 0

            do_GET = answer
            do_POST = answer

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    def __enter__(self) -> FakeServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
