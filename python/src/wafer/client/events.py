"""Pushing events, and what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import frames
from .errors import Error, Rejected
from .listing import html_table, text_table
from .transport import Transport, path_of
from .values import encoded_row

BATCH_EVENTS = 1_000
BATCH_BYTES = 4 << 20
"""A batch ends with the event that makes it so large."""

COUNTS = ("accepted", "duplicate", "rejected", "late", "too_late", "older", "early")


@dataclass
class PushReport:
    """What became of the events of a push, in the server's words."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    late: int = 0
    too_late: int = 0
    older: int = 0
    early: int = 0
    events: list[Mapping[str, Any]] = field(default_factory=list, repr=False)
    """For each event its `status`, with the `error` of one that was rejected."""

    @property
    def rejects(self) -> list[tuple[int, str]]:
        """The numbers of the events that were rejected, from 0, with the reasons."""
        return [
            (number, str(event.get("error", "")))
            for number, event in enumerate(self.events)
            if event.get("status") == "rejected"
        ]

    def add(self, answer: Mapping[str, Any]) -> None:
        """Adds what the server said of a batch."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + int(answer[name]))
        self.events.extend(answer["events"])

    def _rows(self) -> list[list[Any]]:
        counts = [[name, getattr(self, name)] for name in COUNTS if getattr(self, name)]
        return counts + [[f"event {number}", error] for number, error in self.rejects]

    def __str__(self) -> str:
        return text_table(["", ""], self._rows())

    def _repr_html_(self) -> str:
        return html_table(["", ""], self._rows(), f"{len(self.events):,} events")


def push(transport: Transport, source: str, rows: Any, raises: bool) -> PushReport:
    """Pushes events in batches."""
    path = path_of("v1", "sources", source, "events")
    report = PushReport()
    for batch in _batches(frames.rows_of(rows)):
        try:
            answer = transport.send(
                "POST",
                path,
                body=b"\n".join(batch),
                media_type="application/x-ndjson",
                accepted=(422,),
            ).json()
            if not isinstance(answer, dict) or len(answer.get("events", ())) != len(batch):
                raise Error(f"the server did not say what became of {len(batch):,} events")
            report.add(answer)
        except Error as error:
            known = report.accepted + report.duplicate
            error.add_note(
                f"{known:,} events were accepted before; pushing all of them again changes nothing"
            )
            raise
    if raises and report.rejected:
        number, message = report.rejects[0]
        raise Rejected(
            f"{report.rejected:,} of {len(report.events):,} events were rejected, the first of them "
            f"event {number}: {message}",
            report,
            row=number,
        )
    return report


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for number, row in enumerate(rows):
        line = encoded_row(row, number)
        batch.append(line)
        size += len(line)
        if len(batch) >= BATCH_EVENTS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
