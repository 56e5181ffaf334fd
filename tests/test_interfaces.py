from __future__ import annotations

import inspect
from typing import Any

import pytest
from zope.interface import Interface
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyClass, verifyObject

from txamqpx import interfaces
from txamqpx.connection import AMQPProtocol
from txamqpx.delegates import Delegate
from txamqpx.interfaces import IDelegate

DESCRIPTIONS: dict[str, Any] = dict(IDelegate.namesAndDescriptions())
HOOKS = sorted(DESCRIPTIONS)


def test_every_interface_is_exported() -> None:
    found = {
        name
        for name, value in vars(interfaces).items()
        if isinstance(value, type(Interface)) and value is not Interface
    }
    assert found == set(interfaces.__all__)


@pytest.mark.covers("J02", "J03")
def test_the_hooks_of_a_delegate() -> None:
    assert HOOKS == [
        "channel_closed",
        "connection_blocked",
        "connection_closed",
        "connection_opened",
        "connection_recovered",
        "connection_unblocked",
        "consumer_cancelled",
        "flow_changed",
        "message_delivered",
        "message_returned",
        "publish_confirmed",
        "publish_nacked",
        "unhandled",
    ]


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_is_described_and_the_delegate_to_inherit_from_takes_the_same(hook: str) -> None:
    wanted = DESCRIPTIONS[hook]
    assert wanted.__doc__
    signature = inspect.signature(getattr(Delegate(), hook))
    assert tuple(signature.parameters) == wanted.getSignatureInfo()["positional"]


def test_the_delegate_to_inherit_from_provides_the_interface() -> None:
    assert verifyClass(IDelegate, Delegate)
    assert verifyObject(IDelegate, Delegate())


def test_a_connection_takes_no_delegate_that_lacks_a_hook() -> None:
    class Deaf:
        pass

    with pytest.raises(Invalid):
        AMQPProtocol(delegate=Deaf())
