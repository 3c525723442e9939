"""The decorator that makes a function of a Python function."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, overload

from ._errors import Refused
from ._rows import Call, columns_call, rows_call
from ._signature import Signature, hints_of, signature

Init = Callable[..., Any]


class Function:
    """A function that was decorated. Called by an author's test, it is the function itself."""

    def __init__(self, function: Callable[..., Any], columns: bool, init: Init | None) -> None:
        if not inspect.isfunction(function):
            raise Refused("`@wafer.function` is for functions: write it above a `def`")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise Refused(f"function `{function.__name__}` is `async`: there is nothing to wait for")
        self.function = function
        self.columns = columns
        self.init = init
        self.signature: Signature = signature(function, columns)
        wanted = 1 if init is None else 2
        found = len(inspect.signature(function).parameters)
        if found != wanted:
            second = ", and what `init` returns" if init else "; a second one needs `init=`"
            raise Refused(
                f"function `{function.__name__}` has {found} parameters, and is given a row{second}"
            )
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)

    def initialised(
        self,
        assets: Mapping[str, bytes],
        parameters: Mapping[str, str],
        failed: Callable[[BaseException], None],
    ) -> Call:
        """Calls `init`, and returns what calls the function on a batch."""
        bound: Callable[..., Any] = self.function
        if self.init is not None:
            bound = _bound(self.function, state_of(self.init, assets, parameters))
        elif parameters:
            names = ", ".join(f"`{name}`" for name in sorted(parameters))
            raise Refused(
                f"function `{self.function.__name__}` has no `init=`, which would take the parameters {names}"
            )
        if self.columns:
            return columns_call(self.signature, bound)
        return rows_call(self.signature, bound, failed)

    def described(self) -> tuple[Any, ...]:
        """Returns the signature in the form of the contract."""
        inputs = [field.described() for field in self.signature.inputs.fields]
        outputs = [field.described() for field in self.signature.outputs.fields]
        return inputs, outputs, self.signature.mapping, self.signature.doc


@overload
def function(wrapped: Callable[..., Any], /) -> Function: ...
@overload
def function(
    *, columns: bool = False, init: Init | None = None
) -> Callable[[Callable[..., Any]], Function]: ...
def function(
    wrapped: Callable[..., Any] | None = None, /, *, columns: bool = False, init: Init | None = None
) -> Any:
    """Makes a function that Wafer can register.

    `columns=True`: it is called with whole columns, `wafer.Columns[Input]`, and returns
    `wafer.Columns[Output]`, one value for each row.

    `init`: is called once, when the function is registered, with the assets (a mapping of names to
    bytes) and the parameters (a mapping of names to texts, or a dataclass if it is hinted so). What
    it returns is the second argument of each call.
    """

    def decorate(wrapped: Callable[..., Any]) -> Function:
        return Function(wrapped, columns, init)

    return decorate if wrapped is None else decorate(wrapped)


def _bound(function: Callable[..., Any], state: Any) -> Callable[..., Any]:
    def bound(rows: Any) -> Any:
        return function(rows, state)

    return bound


def state_of(init: Init, assets: Mapping[str, bytes], parameters: Mapping[str, str]) -> Any:
    """Calls a function or a class with the assets and the parameters, or with fewer of them."""
    taken = list(inspect.signature(init).parameters.values())
    if len(taken) > 2:
        raise Refused(f"`{init.__name__}` has {len(taken)} parameters, and is given assets and parameters")
    hinted = init.__init__ if isinstance(init, type) else init  # type: ignore[misc]
    hints = hints_of(hinted, f"`{init.__name__}`")
    if len(taken) < 2:
        if parameters:
            names = ", ".join(f"`{name}`" for name in sorted(parameters))
            raise Refused(f"`{init.__name__}` takes no parameters, and is given {names}")
        return init(*[assets][: len(taken)])
    hint = hints.get(taken[1].name)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return init(assets, parsed(hint, parameters))
    return init(assets, dict(parameters))


def parsed(cls: type, parameters: Mapping[str, str]) -> Any:
    """Makes a dataclass of parameters, which are texts."""
    hints = hints_of(cls, f"dataclass `{cls.__name__}`")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in parameters:
        if name not in fields:
            known = ", ".join(f"`{known}`" for known in fields)
            raise Refused(f"there is no parameter `{name}`; there are {known}")
    values = {}
    for name, field in fields.items():
        if name in parameters:
            values[name] = _value(name, hints[name], parameters[name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Refused(f"the parameter `{name}` is missing")
    return cls(**values)


def _value(name: str, hint: Any, text: str) -> Any:
    if hint is str:
        return text
    if hint is bool and text in ("true", "false"):
        return text == "true"
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            pass
    wanted = getattr(hint, "__name__", hint)
    if hint not in (bool, int, float):
        raise Refused(f"the parameter `{name}` has the type {wanted}: str, bool, int or float can be one")
    raise Refused(f"the parameter `{name}` is `{text}`, wanted {wanted}")


