"""The decorator that makes a trainer of a class."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, TypeVar, get_args, get_origin

from ._errors import Refused
from ._function import state_of
from ._kinds import Buffers, describe
from ._rows import columns_of, rows_reader
from ._signature import Columns, Rows, hints_of, named, rows_of

Role = Literal["train", "validation"]
"""What rows are used for: to learn from, or to decide, for example, when to stop. There may be no
rows for validation."""

PIECE = 1 << 20
"""How many bytes of an artifact the host reads at once."""

ROLES: tuple[Role, Role] = get_args(Role)
_MARK = "__wafer_trainer__"

Class = TypeVar("Class", bound=type)


@dataclasses.dataclass(frozen=True, slots=True)
class Trained:
    """What a training produced."""

    artifacts: Mapping[str, bytes]
    """By name. The function that serves the model is given them as assets of these names."""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """By name, such as `validation_auc`."""


def trainer(cls: Class, /) -> Class:
    """Makes a trainer of a class that Wafer can train models with.

        @wafer.trainer
        class MeanSpeed:
            \"\"\"A model of one number.\"\"\"

            def __init__(self) -> None:
                self.km = self.minutes = 0.0

            def feed(self, rides: list[Ride], role: wafer.Role) -> None:
                if role == "train":
                    self.km += sum(ride.km for ride in rides)
                    self.minutes += sum(ride.minutes for ride in rides)

            def finish(self) -> wafer.Trained:
                return wafer.Trained({"model": str(self.km / self.minutes).encode()})

    `__init__` is given the assets and the parameters, as `init` of a function is, or fewer of them.
    `feed` is called with each chunk of rows, `list[Row]` or `wafer.Columns[Row]`, where `Row` is a
    dataclass of the columns that the trainer learns from, the label among them. `next_pass`, if it
    is there, is called when all rows were fed, and returns whether to feed them once more. `finish`
    returns a `wafer.Trained`.
    """
    setattr(cls, _MARK, _trainer(cls))
    return cls


@dataclasses.dataclass(frozen=True, slots=True)
class Trainer:
    """What is known of a class that was decorated."""

    cls: type
    rows: Rows
    columns: bool
    """Whether it is fed whole columns."""

    def begun(self, assets: Mapping[str, bytes], parameters: Mapping[str, str], label: str) -> Training:
        """Starts a training."""
        names = [field.name for field in self.rows.fields]
        if label not in names:
            known = ", ".join(f"`{name}`" for name in names)
            raise Refused(
                f"trainer `{self.cls.__name__}` does not ask for the label, `{label}`; "
                f"the fields of `{self.rows.cls.__name__}` are {known}"
            )
        read = partial(columns_of, self.rows) if self.columns else rows_reader(self.rows)
        return Training(state_of(self.cls, assets, parameters), read)

    def described(self) -> list[tuple[Any, ...]]:
        """Returns the columns that it asks for in the form of the contract."""
        return [field.described() for field in self.rows.fields]


def trainer_of(thing: Any) -> Trainer | None:
    """Returns the trainer that a class was decorated to be."""
    found: Trainer | None = vars(thing).get(_MARK) if isinstance(thing, type) else None
    return found


def _trainer(cls: Any) -> Trainer:
    if not isinstance(cls, type):
        raise Refused("`@wafer.trainer` is for classes: write it above a `class`")
    name = cls.__name__
    feed = getattr(cls, "feed", None)
    if not inspect.isfunction(feed) or not callable(getattr(cls, "finish", None)):
        raise Refused(f"trainer `{name}` needs the methods `feed(self, rows, role)` and `finish(self)`")
    where = f"`feed` of trainer `{name}`"
    parameters = list(inspect.signature(feed).parameters.values())
    if len(parameters) != 3:
        raise Refused(f"{where} has {len(parameters) - 1} parameters, and is given rows and their role")
    rows = parameters[1].name
    hint = hints_of(feed, where).get(rows)
    origin = get_origin(hint)
    if origin not in (list, Columns):
        found = f"is {named(hint)}" if hint is not None else "has no type hint"
        raise Refused(
            f"parameter `{rows}` of {where} {found}, and has to be `list[Row]` or "
            "`wafer.Columns[Row]`, where `Row` is a dataclass whose fields are columns"
        )
    return Trainer(cls, rows_of(get_args(hint)[0], f"the row of {where}"), origin is Columns)


class Training:
    """A training that has begun."""

    def __init__(self, state: Any, read: Callable[[int, list[Buffers]], Any]) -> None:
        self.state = state
        self.read_batch = read
        self.artifacts: dict[str, bytes] = {}

    def feed(self, role: int, rows: int, batch: list[Buffers]) -> None:
        self.state.feed(self.read_batch(rows, batch), ROLES[role])

    def next_pass(self) -> bool:
        next_pass = getattr(self.state, "next_pass", None)
        if next_pass is None:
            return False
        more = next_pass()
        if type(more) is not bool:
            raise Refused(f"`next_pass` returned {describe(more)}, wanted bool")
        return more

    def finish(self) -> tuple[list[tuple[str, int]], list[tuple[str, float]]]:
        """Returns the names and sizes of the artifacts, and the metrics."""
        trained = self.state.finish()
        if not isinstance(trained, Trained):
            raise Refused(f"`finish` returned {describe(trained)}, wanted wafer.Trained")
        for name, content in trained.artifacts.items():
            if not isinstance(content, bytes | bytearray | memoryview):
                raise Refused(f"artifact {name!r} is {describe(content)}, wanted bytes")
            self.artifacts[str(name)] = bytes(content)
        metrics = []
        for name, value in trained.metrics.items():
            if type(value) not in (int, float):
                raise Refused(f"metric {name!r} is {describe(value)}, wanted float")
            metrics.append((str(name), float(value)))
        return [(name, len(content)) for name, content in self.artifacts.items()], metrics

    def read(self, artifact: str, offset: int) -> memoryview:
        """Returns a piece of an artifact."""
        return memoryview(self.artifacts[artifact])[offset : offset + PIECE]
