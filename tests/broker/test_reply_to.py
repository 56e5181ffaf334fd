"""Addresses of channels: which lead where, and what wrong ones do."""

from __future__ import annotations

from base64 import b64encode

import pytest

from tests.broker.yard import PROFILES
from txamqpx.broker.message import Message
from txamqpx.broker.profile import profile_named
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.reply_to import NAME, PREFIX, Replies
from txamqpx.rpc.address import is_well_formed

OLD, NEW = PROFILES

STRANGER = f"{PREFIX}{b64encode(b'other@node').decode()}.AAAA"


def replies(profile: str) -> Replies:
    return Replies("/", profile_named(profile))


def message(body: bytes = b"") -> Message:
    return Message.of("", "", b"\0\0", body)


@pytest.mark.parametrize("profile", PROFILES)
def test_replies_reach_whom_they_are_for(profile: str) -> None:
    there = replies(profile)
    got: list[tuple[str, bytes]] = []
    first = there.open(lambda reply: got.append(("first", reply.body)))
    second = there.open(lambda reply: got.append(("second", reply.body)))
    assert first.name != second.name
    assert is_well_formed(first.name)
    for address in (second, first):
        found = there.find(address.name)
        assert found is address
        assert found.publish(message(address.name.encode()))
        assert not found.deleted
    assert got == [("second", second.name.encode()), ("first", first.name.encode())]


def test_nobody_any_more() -> None:
    """To the one release it is no way, to the other one that leads nowhere."""
    for profile in PROFILES:
        there = replies(profile)
        address = there.open(lambda reply: pytest.fail("nobody is there"))
        assert there.is_queue(address.name) is (profile == NEW)
        there.close(address)
        found = there.find(address.name)
        assert not there.is_queue(address.name)
        assert (found is None) is (profile == OLD)
        if found is not None:
            assert found.publish(message())
        there.check(address.name)


def test_an_address_that_was_tampered_with() -> None:
    """What base64 would leave out makes it another one."""
    there = replies(NEW)
    address = there.open(lambda reply: pytest.fail("it is for somebody else"))
    spoilt = address.name.replace(PREFIX, f"{PREFIX}!")
    assert there.find(spoilt) is None
    with pytest.raises(Refusal):
        there.declared(spoilt)


@pytest.mark.parametrize(
    "name", ["jobs", NAME, PREFIX, f"{PREFIX}x", f"{PREFIX}a.b", f"{PREFIX}!.b", STRANGER]
)
@pytest.mark.parametrize("profile", PROFILES)
def test_names_that_lead_nowhere(profile: str, name: str) -> None:
    there = replies(profile)
    there.open(lambda reply: pytest.fail("it is for somebody else"))
    assert there.find(name) is None
    assert not there.is_queue(name)


@pytest.mark.parametrize("name", [f"{PREFIX}a.b", f"{PREFIX}!.b", STRANGER])
def test_forgeries_over_which_a_release_stumbles(name: str) -> None:
    replies(NEW).check(name)
    with pytest.raises(Refusal) as caught:
        replies(OLD).check(name)
    assert (caught.value.code, caught.value.text, caught.value.hard) == (541, "INTERNAL_ERROR", True)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (f"{NAME}x", 404, 541),
        (PREFIX, 404, 541),
        (f"{PREFIX}x", 404, 541),
        (f"{PREFIX}a.b", 541, 541),
        (STRANGER, 541, 541),
    ],
)
def test_what_is_declared(name: str, old: int, new: int) -> None:
    for profile, code in ((OLD, old), (NEW, new)):
        there = replies(profile)
        there.declared(NAME)
        address = there.open(lambda reply: None)
        there.declared(address.name)
        there.close(address)
        with pytest.raises(Refusal, match=f"404 NOT_FOUND - no queue '{PREFIX}"):
            there.declared(address.name)
        with pytest.raises(Refusal) as caught:
            there.declared(name)
        assert caught.value.code == code
