from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.pair import NO_PROPERTIES, Said, words_in
from txamqpx.errors import EncodeError
from txamqpx.protocol.publishing import PublishFrames, content_header
from txamqpx.protocol.tuning import Tuning
from txamqpx.spec.amqp0_9_1 import BasicProperties, BasicPublish

TUNING = Tuning(2047, 4096, 60)


def frames(frame_max: int = 4096, channel: int = 7) -> PublishFrames:
    return PublishFrames(channel, Tuning(2047, frame_max, 60), (frame_max or 131072) - 8)


def encoded(
    encoder: PublishFrames,
    body: bytes = b"body",
    exchange: str = "exchange",
    key: str = "key",
    properties: BasicProperties = NO_PROPERTIES,
    mandatory: bool = False,
) -> list[Said]:
    made = encoder.encode(body, exchange, key, properties, mandatory)
    return words_in(made if isinstance(made, bytes) else b"".join(made))


@pytest.mark.covers("T-FR-03")
def test_a_publish_is_a_method_a_header_and_its_bodies_in_one_piece() -> None:
    persistent = BasicProperties(delivery_mode=2)
    assert encoded(frames(), properties=persistent, mandatory=True) == [
        Said(7, BasicPublish("exchange", "key", True), b"body", persistent)
    ]


@pytest.mark.covers("T-FR-01", "T-FR-03")
@pytest.mark.parametrize("size", [0, 1, 2048, 2049, 4087, 4088, 4089, 8176, 8177, 100_000, 1_000_000])
@pytest.mark.parametrize("frame_max", [4096, 131072, 0])
def test_a_body_of_any_size_makes_the_way(size: int, frame_max: int) -> None:
    body = b"x" * size
    assert encoded(frames(frame_max), body) == [Said(7, BasicPublish("exchange", "key"), body, NO_PROPERTIES)]


PROPERTIES = [
    NO_PROPERTIES,
    BasicProperties(),
    BasicProperties(priority=0),
    BasicProperties(headers={"a": 1}, message_id="x"),
]
publishes = st.tuples(
    st.sampled_from([b"", b"a", b"bb", b"c" * 5000]),
    st.sampled_from(["", "e", "f"]),
    st.sampled_from(["", "k", "l"]),
    st.sampled_from(PROPERTIES),
    st.booleans(),
)


@given(st.lists(publishes, max_size=12))
def test_what_is_remembered_never_shows(sequence: list[Any]) -> None:
    encoder = frames()
    for body, exchange, key, properties, mandatory in sequence:
        expected = Said(7, BasicPublish(exchange, key, mandatory), body, properties)
        assert encoded(encoder, body, exchange, key, properties, mandatory) == [expected]


@pytest.mark.covers("T-PUB-02", "T-FR-08")
def test_a_refused_publish_leaves_nothing_behind() -> None:
    encoder = frames()
    first = encoded(encoder)
    with pytest.raises(EncodeError, match="routing_key"):
        encoded(encoder, key="k" * 256)
    with pytest.raises(EncodeError, match="priority"):
        encoded(encoder, properties=BasicProperties(priority=256))
    assert encoded(encoder) == first


def test_the_names_that_are_kept_have_a_limit_and_stay_right() -> None:
    encoder = frames()
    for number in range(1200):
        (word,) = encoded(encoder, key=f"key {number}")
        assert word.method == BasicPublish("exchange", f"key {number}")
    (word,) = encoded(encoder, key="key 3")
    assert word.method == BasicPublish("exchange", "key 3")


@pytest.mark.covers("T-FR-02")
@pytest.mark.parametrize("kind", ["publish", "header"])
def test_properties_that_do_not_fit_a_frame_are_refused(kind: str) -> None:
    def take(size: int) -> object:
        properties = BasicProperties(headers={"a": "x" * size})
        if kind == "publish":
            return encoded(frames(), properties=properties)
        return content_header(7, 60, properties, 4, TUNING)

    fits = 4096 - (7 + 12 + 2 + 4 + 2 + 1 + 4 + 1)
    take(fits)
    with pytest.raises(
        EncodeError, match="take 4097 bytes with the frame around them, frame_max is 4096"
    ) as caught:
        take(fits + 1)
    assert caught.value.field == "basic properties"


@pytest.mark.covers("T-FR-02")
def test_without_a_limit_any_properties_fit() -> None:
    properties = BasicProperties(headers={"a": "x" * 300_000})
    assert len(content_header(7, 60, properties, 4, Tuning(0, 0, 0))) > 300_000
