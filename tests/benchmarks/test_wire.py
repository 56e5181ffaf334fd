import pytest
from pamqp.body import ContentBody
from pamqp.commands import Basic, Connection
from pamqp.frame import unmarshal
from pamqp.header import ContentHeader

from benchmarks import wire


def decoded(data: bytes) -> list[object]:
    """Return the frames in these bytes, as pamqp reads them."""
    found: list[object] = []
    while data:
        size, _channel, frame = unmarshal(data)
        found.append(frame)
        data = data[size:]
    return found


def test_a_publication_is_what_it_says() -> None:
    publish, header, *bodies = decoded(wire.publication("q", b"x" * 200_000))
    assert isinstance(publish, Basic.Publish)
    assert (publish.exchange, publish.routing_key, publish.mandatory) == ("", "q", False)
    assert isinstance(header, ContentHeader)
    assert (header.body_size, header.properties.content_type) == (200_000, "application/octet-stream")
    assert header.properties.delivery_mode == 1
    assert [len(body) for body in bodies if isinstance(body, ContentBody)] == [131_064, 68_936]


def test_an_empty_publication_has_no_body_frame() -> None:
    assert len(decoded(wire.publication("q", b""))) == 2


@pytest.mark.parametrize("size", [1, 70_000])
def test_deliveries_are_cut_without_regard_to_frames(size: int) -> None:
    reads = wire.deliveries(1000 if size == 1 else 5, size)
    assert {len(read) for read in reads[:-1]} == {wire.CHUNK}
    frames = decoded(b"".join(reads))
    tags = [frame.delivery_tag for frame in frames if isinstance(frame, Basic.Deliver)]
    assert tags == list(range(1, len(tags) + 1))
    assert {len(frame) for frame in frames if isinstance(frame, ContentBody)} == {size}
    assert len(frames) == 3 * len(tags) == 3 * (1000 if size == 1 else 5)


def test_multiple_confirms_cover_a_batch_each() -> None:
    answers = wire.confirms(25, 10, single=False)
    acks = [frame for _, answer in answers for frame in decoded(answer)]
    assert [batch for batch, _ in answers] == [10, 10, 5]
    assert [(ack.delivery_tag, ack.multiple) for ack in acks if isinstance(ack, Basic.Ack)] == [
        (10, True),
        (20, True),
        (25, True),
    ]


def test_single_confirms_come_in_the_same_batches() -> None:
    answers = wire.confirms(25, 10, single=True)
    acks = [[ack for ack in decoded(answer) if isinstance(ack, Basic.Ack)] for _, answer in answers]
    assert [len(batch) for batch in acks] == [batch for batch, _ in answers] == [10, 10, 5]
    assert [ack.delivery_tag for batch in acks for ack in batch] == list(range(1, 26))
    assert not any(ack.multiple for batch in acks for ack in batch)


def test_the_handshake_is_one() -> None:
    start, tune, opened = decoded(wire.HANDSHAKE)
    assert isinstance(start, Connection.Start)
    assert start.server_properties == {"capabilities": {"publisher_confirms": True, "basic.nack": True}}
    assert isinstance(tune, Connection.Tune)
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 0)
    assert isinstance(opened, Connection.OpenOk)


def test_the_first_payload_is_taken() -> None:
    assert wire.payload(wire.method(1, 60, 80, b"abc") + b"more") == b"\0\x3c\0\x50abc"
