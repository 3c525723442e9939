"""HTTP: connections that are kept, time-outs that have names, and retries that are bounded.

A request is tried again only if the server said that it may be: with status 429 or 503, after the
time that `Retry-After` names. A connection that was lost is an error, because nobody knows what
became of the request.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from .errors import Busy, Error, Invalid, TimedOut, Unreachable, of_answer

MAX_JSON_BYTES = 256 << 20
"""The most bytes of an answer that is held in memory."""
MAX_ERROR_BYTES = 64 << 10
PIECE = 1 << 20

MAX_IDLE = 10.0
"""For how many seconds a connection is kept that nobody uses. Servers close them after 30 s."""

RETRIED = (429, 503)

Body = bytes | Path
Query = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Timeouts:
    """Time limits, in seconds."""

    connect: float = 10.0
    """To reach the server."""
    answer: float = 60.0
    """Until an answer begins, and then between two pieces of it."""
    training_set: float = 3_600.0
    """As `answer`, for a training set, which is made before its answer begins."""
    start: float = 60.0
    """Until a private server listens."""
    stop: float = 30.0
    """Until a private server has ended. After it, it is killed; nothing acknowledged is lost."""


@dataclass(frozen=True)
class Retries:
    """How often a request is tried again that the server had no time for (status 429 and 503)."""

    times: int = 4
    longest_wait: float = 30.0
    """The longest `Retry-After` that is waited for, in seconds. A longer one is an error at once."""


@dataclass(frozen=True)
class Answer:
    """An answer with a status of success."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Returns the body, which is JSON. Integers are exact."""
        return parse_json(self.body)


class Transport:
    """Sends requests to one server. It may be used by several threads."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url, self._scheme, self._host, self._port, self._prefix = _parts(url)
        if token is not None:
            _check_token(token, self._scheme, self._host)
        self._token = token
        self.timeouts = timeouts or Timeouts()
        self.retries = retries or Retries()
        self._sleep = sleep
        self._tls = ssl.create_default_context() if self._scheme == "https" else None
        self._lock = threading.Lock()
        # Each with the time since which it is idle.
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        self._owner = os.getpid()
        weakref.finalize(self, _close_all, self._idle)

    def get(self, path: str, query: Query = ()) -> Any:
        """Returns the JSON at a path."""
        return self.send("GET", path, query=query).json()

    def post_json(self, path: str, body: bytes) -> Any:
        """Posts JSON, and returns the JSON of the answer."""
        return self.send("POST", path, body=body, media_type="application/json").json()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Body | None = None,
        media_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        accepted: Sequence[int] = (),
        timeout: float | None = None,
        into: Path | None = None,
    ) -> Answer:
        """Sends a request, again if the server says when, and returns its answer.

        `accepted` are statuses of errors that are answers here. With `into`, the body of a success
        is written to this file, and that of the answer is empty.
        """
        target = self._prefix + path + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        sent = self._headers(body, media_type, headers)
        limit = self.timeouts.answer if timeout is None else timeout
        tried = 0
        while True:
            answer, wait = self._once(method, target, sent, body, limit, into)
            if answer.status < 300 or answer.status in accepted:
                return answer
            error = of_answer(answer.status, answer.body)
            if answer.status not in RETRIED or tried >= self.retries.times:
                raise error
            if wait > self.retries.longest_wait:
                raise Busy(
                    error.message,
                    code=error.code,
                    status=error.status,
                    hint=f"the server asks to try again in {wait:.0f} s, which is longer than "
                    f"`retries.longest_wait`, {self.retries.longest_wait:.0f} s",
                )
            tried += 1
            self._sleep(wait)

    def move(self, url: str) -> None:
        """Goes on with a server at another address."""
        self.close()
        self.url, self._scheme, self._host, self._port, self._prefix = _parts(url)

    def close(self) -> None:
        """Closes the connections that are kept."""
        with self._lock:
            _close_all(self._idle)

    def _headers(
        self, body: Body | None, media_type: str | None, more: Mapping[str, str] | None
    ) -> dict[str, str]:
        headers = {"accept": "application/json", "user-agent": "wafer-python"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        if body is not None:
            length = len(body) if isinstance(body, bytes) else body.stat().st_size
            headers["content-length"] = str(length)
        if media_type is not None:
            headers["content-type"] = media_type
        headers.update(more or {})
        return headers

    def _once(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Body | None,
        limit: float,
        into: Path | None,
    ) -> tuple[Answer, float]:
        """Sends a request once. Returns its answer, and how long to wait before the next try."""
        connection = self._connection()
        try:
            with self._explained(limit):
                answer, wait = _exchange(connection, method, target, headers, body, limit, into)
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return answer, wait

    def _connection(self) -> http.client.HTTPConnection:
        """Returns a connection that is open as far as can be told."""
        while True:
            with self._lock:
                if os.getpid() != self._owner:
                    # Connections belong to the process that this one was forked from, which
                    # goes on with them.
                    _close_all(self._idle)
                    self._owner = os.getpid()
                kept = self._idle.pop() if self._idle else None
            if kept is None:
                return self._connect()
            connection, since = kept
            is_fresh = time.monotonic() - since < MAX_IDLE
            if is_fresh and connection.sock is not None and not _was_closed(connection.sock):
                return connection
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        timeout = self.timeouts.connect
        connection = (
            http.client.HTTPConnection(self._host, self._port, timeout=timeout)
            if self._tls is None
            else http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout, context=self._tls
            )
        )
        try:
            connection.connect()
        except TimeoutError:
            raise TimedOut(
                f"{self.url} was not reached within {timeout:g} s (`timeouts.connect`)"
            ) from None
        except OSError as error:
            raise Unreachable(
                f"{self.url} cannot be reached: {error}", hint="is the server running there?"
            ) from None
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        # `http.client` has closed the socket if the server does not keep the connection.
        if connection.sock is None:
            return
        with self._lock:
            if os.getpid() == self._owner and len(self._idle) < 16:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()

    @contextmanager
    def _explained(self, limit: float) -> Iterator[None]:
        """Turns errors of the connection into those of the client."""
        try:
            yield
        except TimeoutError:
            raise TimedOut(
                f"{self.url} did not answer for {limit:g} s (time limit of `timeouts`)"
            ) from None
        except (http.client.HTTPException, ConnectionError, ssl.SSLError) as error:
            said = str(error) or type(error).__name__
            raise Unreachable(
                f"the connection to {self.url} was lost before the answer was there: {said}",
                hint="whether the request was carried out is not known",
            ) from None


def _close_all(idle: list[tuple[http.client.HTTPConnection, float]]) -> None:
    while idle:
        connection, _ = idle.pop()
        connection.close()


def parse_json(body: bytes) -> Any:
    """Parses JSON from a server."""

    def constant(text: str) -> Any:
        raise ValueError(f"{text} is no JSON")

    try:
        return json.loads(body, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Unreachable(f"what was answered is not JSON: {error}") from None


def path_of(*parts: str) -> str:
    """Returns a path of these parts, each of which may have any characters."""
    for part in parts:
        if part in ("", ".", ".."):
            raise Invalid(f"`{part}` is not a name")
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: Body | None,
    limit: float,
    into: Path | None,
) -> tuple[Answer, float]:
    connection.sock.settimeout(limit)
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    is_sent = True
    try:
        for piece in _pieces(body):
            connection.send(piece)
    except (BrokenPipeError, ConnectionResetError):
        # A server that refuses a body answers without reading it. The answer may be there.
        is_sent = False
    response = connection.getresponse()
    named = {name.lower(): value for name, value in response.getheaders()}
    if into is not None and response.status < 300:
        with into.open("wb") as file:
            _copy(response, file)
        read = b""
    else:
        read = _read(response, MAX_JSON_BYTES if response.status < 300 else MAX_ERROR_BYTES)
    if not is_sent:
        connection.close()
    return Answer(response.status, named, read), _wait(named.get("retry-after"))


def _pieces(body: Body | None) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body
    elif body is not None:
        with body.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece


def _read(response: http.client.HTTPResponse, most: int) -> bytes:
    """Reads a body that is held in memory. A longer one is an error, or is cut if it is one."""
    body = response.read(most + 1)
    if len(body) > most:
        if response.status < 300:
            raise Error(f"the answer has more than {most >> 20} MiB; ask for less at once")
        response.close()
    else:
        _check_complete(response)
        # The end of a body in chunks is read as well, so that the connection can be used again.
        response.read()
    return body


def _copy(response: http.client.HTTPResponse, file: IO[bytes]) -> None:
    while piece := response.read(PIECE):
        file.write(piece)
    _check_complete(response)


def _check_complete(response: http.client.HTTPResponse) -> None:
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _wait(after: str | None) -> float:
    """Returns the seconds that `Retry-After` names, in either of its forms; one without it."""
    if after is None:
        return 1.0
    if after.strip().isascii() and after.strip().isdigit():
        return float(after.strip()[:9])
    try:
        at = parsedate_to_datetime(after)
    except ValueError:
        return 1.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _was_closed(connection: socket.socket) -> bool:
    """Returns whether the other side has closed an idle connection, or sent what nobody asked for."""
    waiting = select.poll()
    try:
        waiting.register(connection, select.POLLIN)
        return bool(waiting.poll(0))
    except (OSError, ValueError):
        return True


def _parts(url: str) -> tuple[str, str, str, int, str]:
    """Returns the URL, and its scheme, host, port and path."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(f"`{url}` is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise Invalid(f"`{url}` is not the URL of a server", hint="write http://HOST:PORT or https://HOST")
    if parts.username is not None or parts.query or parts.fragment:
        raise Invalid("the URL of a server has no user name, query or fragment", hint="pass `token=`")
    if any(character <= " " or character == "\x7f" for character in url):
        raise Invalid(f"`{url}` is not a URL: it has blanks or control characters")
    path = parts.path.rstrip("/")
    shown = f"{parts.scheme}://{parts.netloc}{path}"
    return shown, parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path


def _check_token(token: str, scheme: str, host: str) -> None:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Invalid("the token is empty, or has characters that no header can have")
    if scheme == "http" and not _is_loopback(host):
        raise Invalid(
            f"the token would be sent to {host} in the clear", hint="use https:// with a token"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
