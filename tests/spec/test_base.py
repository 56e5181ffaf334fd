from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pamqp.commands
import pamqp.header
import pika.spec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txamqpx.errors import DecodeError, EncodeError
from txamqpx.protocol.frames import header_frame
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.amqp0_9_1 import BasicProperties, BasicPublish, QueueDeclare, QueueDeclareOk
from txamqpx.spec.base import (
    Method,
    Properties,
    frozen_table,
    normal_delivery_mode,
    normal_expiration,
    truncated,
)
from txamqpx.spec.wire import RawTimestamp

few = settings(max_examples=40, deadline=None)

# --------------------------------------------------------------------------- methods


def test_a_method_is_a_value() -> None:
    assert QueueDeclare("x", durable=True) == QueueDeclare("x", durable=True)
    assert QueueDeclare("x") != QueueDeclare("y")
    assert QueueDeclare("x") != QueueDeclareOk("x")
    assert QueueDeclare("x") != "x"
    with pytest.raises(TypeError, match="unhashable"):
        hash(QueueDeclare("x"))


def test_a_method_shows_its_fields_but_no_secret() -> None:
    assert repr(BasicPublish("e", "k", True)) == (
        "BasicPublish(exchange='e', routing_key='k', mandatory=True, immediate=False)"
    )
    assert "canary" not in repr(amqp.ConnectionUpdateSecret("canary", "reason"))


def test_a_bare_method_belongs_to_no_specification() -> None:
    assert not Method().expects_reply
    with pytest.raises(TypeError, match="Method is not a method of any specification"):
        Method().encode()
    with pytest.raises(TypeError, match="Method is not a method of any specification"):
        Method.decode(b"", 0, 0)


def test_an_error_that_no_field_explains_stays_what_it_is() -> None:
    error = EncodeError("something else")
    assert QueueDeclare("x").refusal(error) is error


def test_what_is_cut_short_is_named() -> None:
    error = truncated("queue.declare")
    assert isinstance(error, DecodeError)
    assert str(error) == "queue.declare is cut short"


# --------------------------------------------------------------------------- properties


@pytest.mark.covers("T-FR-10")
def test_absent_and_zero_are_different_things() -> None:
    assert BasicProperties().encode() == b"\0\0"
    zeros = BasicProperties(priority=0, headers={}, message_id="", timestamp=datetime(1970, 1, 1, tzinfo=UTC))
    assert zeros != BasicProperties()
    data = zeros.encode()
    assert data == b"\x28\xc0" + b"\0" * 4 + b"\0" + b"\0" + b"\0" * 8
    found = BasicProperties.decode(data, 0, len(data))
    assert found == zeros
    assert found.as_dict().keys() == {"headers", "priority", "message_id", "timestamp"}


def test_properties_are_a_value_that_does_not_change() -> None:
    headers = {"a": 1}
    properties = BasicProperties(headers=headers, priority=3)
    before = properties.encode()
    headers["a"] = 2
    assert properties.headers == {"a": 1}
    assert properties.encode() is before
    with pytest.raises(TypeError):
        properties.headers["a"] = 2  # type: ignore[index]
    given = properties.as_dict()
    given["priority"] = 9
    assert properties.priority == 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(properties)


def test_properties_are_equal_by_what_is_set() -> None:
    assert BasicProperties(priority=1) == BasicProperties(priority=1)
    assert BasicProperties(priority=1) != BasicProperties(priority=2)
    assert BasicProperties() != "nothing"


def test_properties_can_be_replaced_and_taken_away() -> None:
    properties = BasicProperties(priority=1, message_id="m")
    assert properties.replace(priority=2) == BasicProperties(priority=2, message_id="m")
    assert properties.replace(message_id=None) == BasicProperties(priority=1)
    assert properties == BasicProperties(priority=1, message_id="m")
    with pytest.raises(TypeError, match="colour"):
        properties.replace(colour="red")


def test_properties_go_by_their_names_in_any_spelling() -> None:
    named = BasicProperties.named({"delivery-mode": 2, "message id": "m", "user_id": "u"})
    assert named == BasicProperties(delivery_mode=2, message_id="m", user_id="u")
    with pytest.raises(TypeError, match="colour"):
        BasicProperties.named({"colour": "red"})


def test_properties_show_what_is_set() -> None:
    assert repr(BasicProperties(priority=1, message_id="m")) == "BasicProperties(priority=1, message_id='m')"


def test_bare_properties_belong_to_no_specification() -> None:
    with pytest.raises(TypeError, match="Properties are not the properties of any specification"):
        Properties.decode(b"", 0, 0)


@pytest.mark.covers("T-FR-08", "T-FR-10")
@pytest.mark.parametrize(
    ("properties", "field"),
    [
        (BasicProperties(message_id="é" * 128), "basic property message_id"),
        (BasicProperties(priority=256), "basic property priority"),
        (BasicProperties(priority=True), "basic property priority"),
        (BasicProperties(headers={"a": {"b": object()}}), "basic property headers > 'a' > 'b'"),
        (BasicProperties(timestamp=0), "basic property timestamp"),  # type: ignore[arg-type]
    ],
)
def test_a_property_that_does_not_fit_is_refused_by_name(properties: BasicProperties, field: str) -> None:
    with pytest.raises(EncodeError) as caught:
        properties.encode()
    assert caught.value.field == field


def test_headers_are_a_table() -> None:
    assert isinstance(frozen_table({"a": 1}), MappingProxyType)
    with pytest.raises(EncodeError, match="headers: must be a mapping, not list"):
        BasicProperties(headers=[("a", 1)])  # type: ignore[arg-type]


@pytest.mark.covers("T-PUB-11")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("60000", "60000"),
        (60000, "60000"),
        (0, "0"),
        (timedelta(seconds=1.5), "1500"),
        (timedelta(microseconds=1600), "2"),
    ],
    ids=repr,
)
def test_an_expiration_is_milliseconds_in_decimal(value: Any, text: str) -> None:
    assert normal_expiration(value) == text
    assert BasicProperties(expiration=value).expiration == text


@pytest.mark.covers("T-PUB-11")
@pytest.mark.parametrize(
    "value",
    ["", "-1", "1.5", " 1", "²", "٣", -1, True, 1.5, None, timedelta(-1), "x" * 999],
    ids=lambda value: f"{value!r:.20}",
)
def test_an_expiration_that_would_close_the_channel_is_refused(value: Any) -> None:
    with pytest.raises(EncodeError, match="basic property expiration: must be milliseconds") as caught:
        normal_expiration(value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [1, 2])
def test_a_delivery_mode_is_one_of_two(value: int) -> None:
    assert normal_delivery_mode(value) == value


@pytest.mark.parametrize("value", [0, 3, True, "2", None])
def test_another_delivery_mode_is_refused(value: Any) -> None:
    with pytest.raises(EncodeError, match="basic property delivery_mode: must be 1"):
        normal_delivery_mode(value)


texts = st.text(max_size=60)
PROPERTIES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        [
            "content_type",
            "content_encoding",
            "correlation_id",
            "reply_to",
            "message_id",
            "type",
            "user_id",
            "app_id",
            "cluster_id",
        ],
        texts,
    ),
    "headers": st.dictionaries(texts, st.booleans() | texts | st.none(), max_size=3),
    "delivery_mode": st.sampled_from([1, 2]),
    "priority": st.integers(0, 255),
    "expiration": st.integers(0, 2**40).map(str),
    "timestamp": st.integers(0, 2**37).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
}
some_properties = st.fixed_dictionaries({}, optional=PROPERTIES)


@pytest.mark.covers("T-FR-10")
@few
@given(some_properties)
def test_any_properties_come_back_as_they_were(values: dict[str, Any]) -> None:
    properties = BasicProperties(**values)
    data = properties.encode()
    found = BasicProperties.decode(b"before" + data + b"behind", 6, 6 + len(data))
    assert found == properties
    assert found.as_dict() == values
    assert found.encode() == data


@pytest.mark.covers("T-FR-06")
@few
@given(some_properties, st.data())
def test_properties_with_one_byte_changed_are_properties_or_a_decode_error(
    values: dict[str, Any], data: st.DataObject
) -> None:
    raw = bytearray(BasicProperties(**values).encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DecodeError):
        BasicProperties.decode(bytes(raw), 0, data.draw(st.integers(0, len(raw))))


def test_a_timestamp_that_no_datetime_holds_goes_back_as_it_came() -> None:
    properties = BasicProperties(timestamp=RawTimestamp(2**60))
    data = properties.encode()
    assert BasicProperties.decode(data, 0, len(data)) == properties


# --------------------------------------------------------------------------- agreement with others


@few
@given(some_properties, st.integers(1, 0xFFFF), st.integers(0, 2**40))
def test_pika_and_pamqp_write_the_same_content_headers(
    values: dict[str, Any], channel: int, size: int
) -> None:
    values.pop("cluster_id", None)
    timestamp = values.pop("timestamp", None)  # pika takes seconds, pamqp a moment
    ours = BasicProperties(**values, timestamp=timestamp).encode()
    seconds = None if timestamp is None else int(timestamp.timestamp())
    theirs = b"".join(pika.spec.BasicProperties(**values, timestamp=seconds).encode())
    assert ours == theirs
    # pamqp leaves out what is empty; tables are compared by themselves.
    values = {name: value for name, value in values.items() if value and name != "headers"}
    mine = header_frame(channel, 60, BasicProperties(**values, timestamp=timestamp).encode(), size)
    values["message_type"] = values.pop("type", None)
    header = pamqp.header.ContentHeader(
        0, size, pamqp.commands.Basic.Properties(**values, timestamp=timestamp)
    )
    assert mine[7:-1] == header.marshal()


names = st.from_regex(r"[a-zA-Z0-9-_.:]{0,40}", fullmatch=True)
flags = st.booleans()
tags = st.integers(0, 2**63 - 1)  # pamqp takes no more
# What the others call a field otherwise.
PAMQP = {"no_wait": "nowait"}
PIKA = {"no_wait": "nowait", "global_": "global_qos"}
CASES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "Basic.Ack": {"delivery_tag": tags, "multiple": flags},
    "Basic.Cancel": {"consumer_tag": names, "no_wait": flags},
    "Basic.Consume": {"queue": names, "consumer_tag": names, "no_ack": flags, "exclusive": flags},
    "Basic.Get": {"queue": names, "no_ack": flags},
    "Basic.Nack": {"delivery_tag": tags, "multiple": flags, "requeue": flags},
    "Basic.Publish": {"exchange": names, "routing_key": names, "mandatory": flags, "immediate": flags},
    "Basic.Qos": {"prefetch_count": st.integers(0, 0xFFFF), "global_": flags},
    "Basic.Reject": {"delivery_tag": tags, "requeue": flags},
    "Channel.Close": {
        "reply_code": st.integers(0, 0xFFFF),
        "reply_text": names,
        "class_id": st.integers(0, 0xFFFF),
        "method_id": st.integers(0, 0xFFFF),
    },
    "Confirm.Select": {"no_wait": flags},
    "Connection.Tune": {
        "channel_max": st.integers(0, 0xFFFF),
        "frame_max": st.integers(0, 2**31),
        "heartbeat": st.integers(0, 0xFFFF),
    },
    "Exchange.Bind": {"destination": names, "source": names, "routing_key": names, "no_wait": flags},
    "Exchange.Declare": {
        "exchange": names,
        "passive": flags,
        "durable": flags,
        "auto_delete": flags,
        "internal": flags,
        "no_wait": flags,
    },
    "Queue.Bind": {"queue": names, "exchange": names, "routing_key": names, "no_wait": flags},
    "Queue.Declare": {
        "queue": names,
        "passive": flags,
        "durable": flags,
        "exclusive": flags,
        "auto_delete": flags,
        "no_wait": flags,
    },
    "Queue.DeclareOk": {
        "queue": names,
        "message_count": st.integers(0, 2**31),
        "consumer_count": st.integers(0, 2**31),
    },
    "Queue.Delete": {"queue": names, "if_unused": flags, "if_empty": flags, "no_wait": flags},
    "Tx.Commit": {},
}


@pytest.mark.parametrize("name", CASES)
def test_pika_and_pamqp_write_the_same_methods(name: str) -> None:
    klass, _, method = name.partition(".")
    ours: Any = getattr(amqp, klass + method)
    pikas: Any = getattr(getattr(pika.spec, klass), method)
    pamqps: Any = getattr(getattr(pamqp.commands, klass), method)

    @settings(max_examples=15, deadline=None)
    @given(st.fixed_dictionaries(CASES[name]))
    def check(values: dict[str, Any]) -> None:
        data = ours(**values).encode()
        assert data[4:] == b"".join(
            pikas(**{PIKA.get(key, key): one for key, one in values.items()}).encode()
        )
        assert data[4:] == pamqps(**{PAMQP.get(key, key): one for key, one in values.items()}).marshal()
        assert ours.decode(data, 4, len(data)).encode() == data

    check()
