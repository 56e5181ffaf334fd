"""The house: whatever reply code the specification knows, there is an error class for it."""

import pytest

from txamqpx.errors import ChannelClosed, ConnectionClosed, Unroutable
from txamqpx.spec.model import Constant
from txamqpx.spec.xmlspec import bundled

CONSTANTS = bundled("0-9-1").constants
# These two come with a message that was returned, and close nothing.
RETURNED = {"no-route", "no-consumers"}


def of_kind(kind: str) -> list[Constant]:
    found = [constant for constant in CONSTANTS if constant.kind == kind and constant.name not in RETURNED]
    assert found, f"the specification has no {kind}"
    return found


@pytest.mark.parametrize("constant", of_kind("soft-error"), ids=lambda constant: constant.name)
def test_a_soft_error_closes_a_channel_with_its_own_class(constant: Constant) -> None:
    error = ChannelClosed.from_reply(constant.value, "because")
    assert type(error) is not ChannelClosed
    assert error.reply_code == type(error).default_code == constant.value


@pytest.mark.parametrize("constant", of_kind("hard-error"), ids=lambda constant: constant.name)
def test_a_hard_error_closes_the_connection_with_its_own_class(constant: Constant) -> None:
    error = ConnectionClosed.from_reply(constant.value, "because")
    assert type(error) is not ConnectionClosed
    assert error.reply_code == type(error).default_code == constant.value


@pytest.mark.parametrize("name", sorted(RETURNED))
def test_a_returned_message_has_a_class_for_its_reason(name: str) -> None:
    (constant,) = (constant for constant in CONSTANTS if constant.name == name)
    error = Unroutable.from_return(constant.value, "because", "exchange", "key")
    assert type(error) is not Unroutable
    assert error.reply_code == type(error).default_code == constant.value
