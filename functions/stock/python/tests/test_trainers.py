"""Trainers, from the columns of a training set to artifacts and metrics."""

import random

import pytest
from guest import TrainerGuest
from wafer import _guest, _trainer

HEAD = """
from dataclasses import dataclass
from datetime import datetime
import wafer

@dataclass
class Example:
    label: float
    x: float | None
"""
MEAN = HEAD + """
@wafer.trainer
class Mean:
    def __init__(self):
        self.sum = self.rows = self.seen = 0

    def feed(self, rows: list[Example], role: wafer.Role) -> None:
        if role == "train":
            self.sum += sum(row.label for row in rows)
            self.rows += len(rows)
        else:
            self.seen += sum(row.x is not None for row in rows)

    def finish(self) -> wafer.Trained:
        model = str(self.sum / self.rows).encode()
        return wafer.Trained({"model": model}, {"rows": self.rows, "seen": self.seen})
"""
SIMPLE = """
@wafer.trainer
class Simple:
    {init}
    def feed(self, rows: list[Example], role) -> None:
        {feed}
    def finish(self):
        return {finish}
"""
TRAIN, VALIDATION = 0, 1


def simple(init: str = "", feed: str = "pass", finish: str = "wafer.Trained({})") -> str:
    return HEAD + SIMPLE.format(init=init, feed=feed, finish=finish)


def test_rows_are_fed_with_their_role() -> None:
    guest = TrainerGuest(MEAN)
    assert guest.begun == [("label", 2, 0, False, ""), ("x", 2, 0, True, "")]
    assert guest.feed(TRAIN, [1.0, 2.0], [0.5, None]) is None
    assert guest.feed(TRAIN, [6.0], [0.5]) is None
    assert guest.feed(VALIDATION, [100.0, 100.0], [None, 1.0]) is None
    assert _guest.next_pass() == (False, None)
    assert _guest.finish() == ([("model", 3)], [("rows", 3.0), ("seen", 1.0)])
    assert bytes(_guest.read("model", 0)) == b"3.0"


def test_columns_are_fed_whole() -> None:
    code = HEAD + """
@wafer.trainer
class Largest:
    largest = 0.0
    def feed(self, rows: wafer.Columns[Example], role: str) -> None:
        assert isinstance(rows.label, memoryview) and rows.valid("x") == [True, False]
        self.largest = max(self.largest, *rows.label)
    def finish(self):
        return wafer.Trained({"model": repr(self.largest).encode()})
"""
    guest = TrainerGuest(code)
    assert guest.feed(TRAIN, [1.0, 7.0], [0.5, None]) is None
    assert _guest.finish() == ([("model", 3)], [])
    assert bytes(_guest.read("model", 0)) == b"7.0"


def test_rows_are_fed_again_as_long_as_the_trainer_wants() -> None:
    code = MEAN + """
    passes = 0
    def next_pass(self) -> bool:
        self.passes += 1
        return self.passes < 3
"""
    TrainerGuest(code)
    assert [_guest.next_pass() for _ in range(3)] == [(True, None), (True, None), (False, None)]


def test_artifacts_are_read_in_pieces() -> None:
    content = random.Random(0).randbytes(5)
    code = simple(init=f"large = {content!r} * 600_000", finish="wafer.Trained({'a': self.large, 'b': b''})")
    TrainerGuest(code)
    assert _guest.finish() == ([("a", 3_000_000), ("b", 0)], [])
    pieces = [_guest.read("a", offset) for offset in range(0, 3_000_000, _trainer.PIECE)]
    assert [len(piece) for piece in pieces] == [1 << 20, 1 << 20, 3_000_000 - (2 << 20)]
    assert b"".join(pieces) == content * 600_000


def test_trainer_is_given_assets_and_parameters() -> None:
    code = HEAD + """
@dataclass
class Settings:
    rounds: int = 10

@wafer.trainer
class Constant:
    def __init__(self, assets, settings: Settings):
        self.model = assets["start"] * settings.rounds
    def feed(self, rows: list[Example], role: wafer.Role) -> None: ...
    def finish(self) -> wafer.Trained:
        return wafer.Trained({"model": self.model})
"""
    TrainerGuest(code, assets={"start": b"ab"}, rounds="2")
    assert _guest.finish() == ([("model", 4)], [])
    assert bytes(_guest.read("model", 0)) == b"abab"
    unknown = TrainerGuest(code, assets={"start": b"ab"}, round="7").begun
    assert unknown == "there is no parameter `round`; there are `rounds`"
    takes_none = TrainerGuest(simple(), rounds="7").begun
    assert takes_none == "`Simple` takes no parameters, and is given `rounds`"


def test_function_and_trainer_in_one_file() -> None:
    function = "@wafer.function\ndef f(row: Example) -> Example: return row\n"
    assert TrainerGuest(MEAN + function, python_default="f").begun[0][0] == "label"
    two = MEAN + MEAN.replace("Mean", "Other")
    assert TrainerGuest(two, python_function="Other").begun[0][0] == "label"
    assert TrainerGuest(two).begun == (
        "`code_of_test` has the trainers `Mean`, `Other`: say which, as in `python = \"FILE.py:Mean\"`"
    )
    assert TrainerGuest(HEAD + function).begun == (
        "`code_of_test` has no trainer: write `@wafer.trainer` above a class"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def finish(self): ...", "trainer `T` needs the methods `feed(self, rows, role)` and `finish(self)`"),
        ("def feed(self, rows: list[Example], role): ...", "trainer `T` needs the methods"),
        ("def feed(self, rows: list[Example]): ...\n    def finish(self): ...", "`feed` of trainer `T` has 1 parameters, and is given rows and their role"),
        ("def feed(self, rows, role): ...\n    def finish(self): ...", "parameter `rows` of `feed` of trainer `T` has no type hint, and has to be `list[Row]`"),
        ("def feed(self, rows: Example, role): ...\n    def finish(self): ...", "parameter `rows` of `feed` of trainer `T` is `Example`, and has to be `list[Row]`"),
        ("def feed(self, rows: list[int], role): ...\n    def finish(self): ...", "the row of `feed` of trainer `T` is `int`, and has to be a dataclass"),
    ],
)
def test_class_that_is_no_trainer(body: str, message: str) -> None:
    begun = TrainerGuest(HEAD + f"@wafer.trainer\nclass T:\n    {body}\n").begun
    assert isinstance(begun, str) and message in begun
    assert begun.startswith(f"code_of_test.py, line {HEAD.count(chr(10)) + 1}, in <module>: ")


def test_trainer_that_does_not_ask_for_the_label() -> None:
    assert TrainerGuest(MEAN, label="delay").begun == (
        "trainer `Mean` does not ask for the label, `delay`; the fields of `Example` are `label`, `x`"
    )


def test_errors_of_a_training_name_the_line() -> None:
    code = simple(feed="1 / 0")
    error = TrainerGuest(code).feed(TRAIN, [1.0], [1.0])
    line = code[: code.index("1 / 0")].count("\n") + 1
    assert error is not None
    assert f'  File "code_of_test.py", line {line}, in feed\n    1 / 0\n' in error
    assert error.endswith("ZeroDivisionError: " + _zero_division())


def _zero_division() -> str:
    try:
        return str(1 / 0)
    except ZeroDivisionError as error:
        return str(error)


@pytest.mark.parametrize(
    ("finish", "message"),
    [
        ("None", "`finish` returned None, wanted wafer.Trained"),
        ("wafer.Trained({'m': 'text'})", "artifact 'm' is str 'text', wanted bytes"),
        ("wafer.Trained({}, {'auc': 'high'})", "metric 'auc' is str 'high', wanted float"),
    ],
)
def test_wrong_result_of_a_training(finish: str, message: str) -> None:
    TrainerGuest(simple(finish=finish))
    assert _guest.finish() == message


def test_wrong_wish_for_another_pass() -> None:
    TrainerGuest(MEAN + "    def next_pass(self): return 1\n")
    assert _guest.next_pass() == (False, "`next_pass` returned int 1, wanted bool")


def test_moment_that_cannot_be_read_ends_the_training() -> None:
    from array import array

    code = simple().replace("x: float | None", "x: datetime")
    TrainerGuest(code)
    batch = [(2, None, array("d", [1.0, 1.0]).tobytes()), (6, None, array("q", [0, 2**62]).tobytes())]
    assert _guest.feed(TRAIN, 2, batch) == (
        "row 1 of a chunk: column `x`: 4611686018427387904 µs since 1970 is outside of the years 1 to 9999"
    )


def test_class_is_used_natively_as_it_is() -> None:
    scope: dict[str, object] = {}
    exec(compile(MEAN, "mean.py", "exec"), scope)
    mean, example = scope["Mean"], scope["Example"]
    trainer = mean()  # type: ignore[operator]
    trainer.feed([example(2.0, 1.0), example(4.0, None)], "train")  # type: ignore[operator]
    trained = trainer.finish()
    assert trained.artifacts == {"model": b"3.0"}
    assert trained.metrics == {"rows": 2, "seen": 0}
