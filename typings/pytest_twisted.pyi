"""The part of pytest-twisted that the tests use; it ships no types of its own."""

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred

P = ParamSpec("P")
T = TypeVar("T")

def blockon(d: Deferred[T]) -> T: ...
def ensureDeferred(fn: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]: ...
