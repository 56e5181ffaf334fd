from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from txamqpx.errors import DecodeError
from txamqpx.spec.amqp0_9_1 import METHODS, BasicProperties
from txamqpx.spec.base import Method

TEXT = ["content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "type", "user_id"]
EVERYTHING: dict[str, Any] = {
    **{name: name for name in [*TEXT, "app_id", "cluster_id"]},
    "headers": {"a": 1},
    "delivery_mode": 2,
    "priority": 9,
    "expiration": "60000",
    "timestamp": datetime(2020, 1, 1, tzinfo=UTC),
}
FIELDS = [name for name, _ in BasicProperties.fields]


@pytest.mark.covers("T-FR-06")
@pytest.mark.parametrize(
    "method", [method for method in METHODS if method.fields], ids=lambda method: method.name
)
def test_a_method_that_is_cut_anywhere_is_refused(method: type[Method]) -> None:
    data = method().encode()
    for size in range(4, len(data)):
        for behind in (b"", b"\0" * 64):  # the frame may be the last of the buffer, or not
            with pytest.raises(DecodeError):
                method.decode(data[:size] + behind, 4, size)
    assert method.decode(data, 4, len(data)).encode() == data


@pytest.mark.covers("T-FR-10")
@pytest.mark.parametrize("name", FIELDS)
def test_a_property_is_what_was_set_and_absent_otherwise(name: str) -> None:
    assert getattr(BasicProperties(), name) is None
    properties = BasicProperties(**{name: EVERYTHING[name]})
    data = properties.encode()
    assert data[:2] == (0x8000 >> FIELDS.index(name)).to_bytes(2, "big")
    found = BasicProperties.decode(data, 0, len(data))
    assert getattr(found, name) == getattr(properties, name) == EVERYTHING[name]
    assert found.as_dict() == {name: EVERYTHING[name]}


@pytest.mark.covers("T-FR-10")
def test_all_properties_at_once_come_back() -> None:
    properties = BasicProperties(**EVERYTHING)
    data = properties.encode()
    assert BasicProperties.decode(data, 0, len(data)) == properties
    for size in range(len(data)):
        with pytest.raises(DecodeError):
            BasicProperties.decode(data, 0, size)


@pytest.mark.covers("T-FR-10")
def test_a_second_word_of_flags_is_passed_over_and_more_are_refused() -> None:
    assert BasicProperties.decode(b"\x80\x01\x00\x02\x01x", 0, 6) == BasicProperties(content_type="x")
    with pytest.raises(DecodeError, match="more than two words of flags"):
        BasicProperties.decode(b"\x80\x01\x00\x01\x00\x02\x01x", 0, 8)
