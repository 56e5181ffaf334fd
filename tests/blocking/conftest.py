"""A reactor in a thread of its own, for tests without sockets."""

import atexit
from collections.abc import Iterator

import pytest

from tests.blocking.reactors import SmallReactor
from txamqpx.blocking.calls import Calls
from txamqpx.blocking.reactor_thread import ReactorThread


@pytest.fixture
def thread() -> Iterator[ReactorThread]:
    started = ReactorThread(SmallReactor())
    started.start()
    yield started
    started.shut_down()
    atexit.unregister(started.shut_down)


@pytest.fixture
def calls(thread: ReactorThread) -> Calls:
    return Calls(thread, 60.0)
