"""Declaring from threads: the calls are those of the asynchronous client."""

from __future__ import annotations

from inspect import getmembers, isfunction

import pytest
from twisted.internet.defer import Deferred

from tests.blocking.doubles import Asked, asked, parameters, samples
from txamqpx import declaration as asynchronous
from txamqpx.blocking.calls import Calls
from txamqpx.blocking.declaration import Declarations
from txamqpx.errors import WaitTimeout

NAMES = [name for name, _ in getmembers(asynchronous.Declarations, isfunction) if not name.startswith("_")]


@pytest.fixture
def client() -> Asked:
    return Asked()


@pytest.fixture
def declarations(client: Asked, calls: Calls) -> Declarations:
    made = Declarations()
    made._client, made._calls = client, calls  # type: ignore[assignment]
    return made


def test_there_are_some() -> None:
    assert {"queue_declare", "exchange_bind", "queue_purge"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_is_that_of_the_client_and_waits(name: str, client: Asked, declarations: Declarations) -> None:
    ours = getattr(declarations, name)
    arguments = samples(ours)
    assert parameters(ours) == parameters(getattr(asynchronous.Declarations, name))
    assert asked(ours, client, arguments) == (name, arguments)
    assert ours(**arguments) == name


@pytest.mark.parametrize("name", NAMES)
def test_a_call_has_a_limit(name: str, client: Asked, declarations: Declarations) -> None:
    client.answers[name] = Deferred()
    with pytest.raises(WaitTimeout, match=name):
        getattr(declarations, name)(**samples(getattr(declarations, name)), timeout=0.01)
