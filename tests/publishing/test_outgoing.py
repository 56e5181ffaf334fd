"""Properties as they go out: checked, with their defaults."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from txamqpx.errors import EncodeError
from txamqpx.protocol.tuning import Tuning
from txamqpx.publishing.outgoing import Outgoing
from txamqpx.spec.amqp0_9_1 import BasicProperties


def _outgoing(**options: Any) -> Outgoing:
    kept = {"persistent": False, "message_ids": False, "login": "guest", "impersonate": False}
    return Outgoing(**{**kept, **options}, tuning=Tuning(2047, 4096, 60))


@pytest.mark.covers("S11", "S12", "P21")
def test_nothing_is_added_that_was_not_asked_for() -> None:
    assert _outgoing().prepare(None, {}) == BasicProperties()
    given = BasicProperties(type="t", headers={"a": 1})
    assert _outgoing().prepare(given, {}) is given


@pytest.mark.covers("S11", "L03")
def test_messages_are_persistent_unless_they_say_otherwise() -> None:
    outgoing = _outgoing(persistent=True)
    assert outgoing.prepare(None, {}).delivery_mode == 2
    assert outgoing.prepare(BasicProperties(delivery_mode=1), {}).delivery_mode == 1
    assert outgoing.prepare(None, {"delivery_mode": 1}).delivery_mode == 1


def test_fields_stand_above_properties() -> None:
    given = BasicProperties(type="t", app_id="a")
    ready = _outgoing().prepare(given, {"type": "u", "expiration": timedelta(seconds=2)})
    assert ready == BasicProperties(type="u", app_id="a", expiration="2000")
    assert _outgoing().prepare(None, {"type": "u"}) == BasicProperties(type="u")


def test_one_object_for_many_messages_is_looked_at_once() -> None:
    outgoing = _outgoing(persistent=True)
    given = BasicProperties(type="t")
    ready = outgoing.prepare(given, {})
    assert (outgoing.given, outgoing.prepared) == (given, ready)
    outgoing.prepare(given, {"type": "u"})
    assert outgoing.prepared is ready


def test_each_message_gets_an_id_of_its_own() -> None:
    outgoing = _outgoing(message_ids=True)
    one, two = (outgoing.prepare(None, {}).message_id for _ in range(2))
    assert one is not None
    assert one != two
    assert outgoing.given is not None
    assert outgoing.prepare(None, {"message_id": "mine"}).message_id == "mine"


def test_what_is_for_many_messages_is_merged_and_checked_before() -> None:
    outgoing = _outgoing(message_ids=True)
    given = BasicProperties(type="t")
    assert outgoing.merge(None, {}) == BasicProperties()
    assert outgoing.merge(given, {}) is given
    assert outgoing.merge(given, {"app_id": "a"}) == BasicProperties(type="t", app_id="a")
    assert outgoing.merge(None, {"app_id": "a"}) == BasicProperties(app_id="a")
    with pytest.raises(EncodeError):
        outgoing.merge(None, {"user_id": "other"})


@pytest.mark.covers("T-PUB-11", "T-PUB-02")
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"user_id": "other"}, "user_id"),
        ({"headers": {"CC": "key"}}, "CC"),
        ({"headers": {"BCC": [b"key"]}}, "BCC"),
        ({"headers": {"CC": None}}, "CC"),
        ({"headers": {"large": "x" * 5000}}, "frame_max"),
        ({"expiration": "soon"}, "expiration"),
        ({"expiration": -1}, "expiration"),
        ({"delivery_mode": 3}, "delivery_mode"),
        ({"timestamp": datetime(2025, 1, 1)}, "timestamp"),  # noqa: DTZ001
        ({"message_id": "é" * 128}, "message_id"),
        ({"type": "\ud800"}, "type"),
        ({"priority": 256}, "priority"),
    ],
)
def test_what_the_broker_would_close_the_channel_over_is_refused(fields: Any, named: str) -> None:
    with pytest.raises(EncodeError, match=named):
        _outgoing().prepare(None, fields)


@pytest.mark.covers("S13", "T-PUB-11")
@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": "guest"},
        {"headers": {"CC": ["a"], "BCC": ("b", "é")}},
        {"headers": {}},
        {"message_id": "é" * 127},
        {"expiration": 0},
    ],
)
def test_what_is_well_goes_through(fields: Any) -> None:
    _outgoing().prepare(None, fields).encode()


def test_properties_of_another_kind_are_refused() -> None:
    wrong: Any = {"type": "t"}
    with pytest.raises(EncodeError, match="must be BasicProperties, not dict"):
        _outgoing().prepare(wrong, {})


def test_who_may_speak_for_others_is_watched() -> None:
    foreign, own = BasicProperties(user_id="other"), BasicProperties(user_id="guest")
    plain = _outgoing()
    assert not plain.wary
    for wary in (_outgoing(impersonate=True), _outgoing(login=None)):
        assert wary.wary
        assert wary.prepare(foreign, {}) is foreign
        assert wary.is_foreign(foreign)
        assert not wary.is_foreign(BasicProperties())
    assert not _outgoing(impersonate=True).is_foreign(own)
