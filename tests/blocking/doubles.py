"""What stands in for the asynchronous client and its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter, signature
from threading import get_ident
from typing import Any

from twisted.internet.defer import Deferred, succeed


class Asked:
    """Answers each call, and remembers it.

    Attributes:
        calls: The name, the arguments and the options of each call.
        threads: Where the calls were made.
        answers: What to answer, by name; else the name itself.
    """

    def __init__(self, **answers: Any) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.threads: set[int] = set()
        self.answers = answers

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, arguments, options))
            self.threads.add(get_ident())
            answer = self.answers.get(name, name)
            return answer if isinstance(answer, Deferred) else succeed(answer)

        return call


def samples(function: Callable[..., Any], but: Iterable[str] = ("self", "timeout")) -> dict[str, str]:
    """Return an argument for each parameter of a function that takes it by name."""
    kinds = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    parameters = signature(function).parameters.values()
    return {one.name: f"<{one.name}>" for one in parameters if one.kind in kinds and one.name not in but}


def parameters(function: Callable[..., Any], but: Iterable[str] = ("self", "timeout")) -> list[Any]:
    """Return what the parameters of a function are called, how they are given, and their defaults."""
    found = signature(function).parameters.values()
    return [(one.name, one.kind, one.default) for one in found if one.name not in but]


def asked(
    call: Callable[..., object], double: Asked, arguments: dict[str, str]
) -> tuple[str, dict[str, str]]:
    """Make a call; return what the double was asked for, with the arguments by name."""
    call(**arguments)
    name, positional, options = double.calls[-1]
    return name, {**dict(zip(arguments, positional, strict=False)), **options}
