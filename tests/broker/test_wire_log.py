"""What went over the wire, for people."""

from __future__ import annotations

from tests.broker.company import Company
from txamqpx.broker.wire_log import BROKER, CLIENT, WireLog
from txamqpx.errors import AuthenticationError
from txamqpx.protocol.frames import BODY, HEARTBEAT_FRAME, METHOD, body_frames, frame, header_frame
from txamqpx.spec.amqp0_9_1 import (
    BasicProperties,
    BasicPublish,
    ConnectionSecureOk,
    ConnectionStartOk,
    ConnectionUpdateSecret,
)

CANARY = "tweety7canary"
PUBLISH = frame(METHOD, 1, BasicPublish(exchange="e", routing_key="k").encode())
CONTENT = header_frame(1, 60, BasicProperties(message_id="m").encode(), 5) + body_frames(1, b"hello", 0)


class Log(WireLog):
    """A log whose time stands still at 12 s."""

    def __init__(self, most: int = 1024 * 1024) -> None:
        super().__init__(lambda: 12.0, most)

    def texts(self) -> list[str]:
        return [line.text for line in self]


def test_a_line_says_who_said_what_and_where() -> None:
    log = Log()
    log.note(3, CLIENT, True, (PUBLISH, CONTENT))
    log.note(3, BROKER, True, (HEARTBEAT_FRAME,))
    assert str(log).splitlines() == [
        "12.000 #3/1 -> BasicPublish(exchange='e', routing_key='k', mandatory=False, immediate=False)",
        "12.000 #3/1 -> header: a body of 5 bytes, BasicProperties(message_id='m')",
        "12.000 #3/1 -> body: 5 bytes",
        "12.000 #3/0 <- heartbeat",
    ]
    assert repr(log).startswith("<WireLog, ")


def test_bytes_may_come_cut_anywhere() -> None:
    stream = b"AMQP\x00\x00\x09\x01" + PUBLISH + CONTENT
    whole = Log()
    whole.note(1, CLIENT, True, (stream,))
    for cut in range(len(stream)):
        log = Log()
        log.note(1, CLIENT, True, (stream[:cut],))
        log.note(2, CLIENT, True, (HEARTBEAT_FRAME,))
        log.note(1, CLIENT, False, (stream[cut:],))
        texts = log.texts()
        texts.remove("heartbeat")
        assert texts == whole.texts()
    assert whole.texts()[0] == "AMQP 0-0-9-1"


def test_the_oldest_is_forgotten_and_reading_begins_with_a_whole_frame() -> None:
    log = Log(most=1000)
    log.note(1, CLIENT, True, (PUBLISH, CONTENT[:10]))
    log.note(1, CLIENT, False, (CONTENT[10:],))
    before = log.cut
    for _ in range(3):
        log.note(1, CLIENT, True, (HEARTBEAT_FRAME,))
    assert (before, log.cut) == (False, True)
    assert log.texts() == ["heartbeat"] * 3
    assert str(log).splitlines()[0] == "... older frames are forgotten"
    log.clear()
    assert str(log) == ""
    assert [log.cut] == [False]


def test_one_piece_is_kept_however_large() -> None:
    log = Log(most=10)
    log.note(1, CLIENT, True, (frame(BODY, 1, bytes(1000)),))
    assert log.texts() == ["body: 1000 bytes"]


def test_no_password_is_shown() -> None:
    log = Log()
    for method in (
        ConnectionStartOk({}, "PLAIN", CANARY.encode(), "en_US"),
        ConnectionSecureOk(CANARY.encode()),
        ConnectionUpdateSecret(CANARY, "it was old"),
    ):
        log.note(1, CLIENT, True, (frame(METHOD, 0, method.encode()),))
        # Cut short, it cannot be read, and may be anything.
        log.note(1, CLIENT, True, (frame(METHOD, 0, method.encode()[:-1]),))
    log.note(1, CLIENT, True, (frame(METHOD, 0, b"\0\x0a\0\x63" + CANARY.encode()),))
    log.note(1, CLIENT, True, (frame(77, 0, CANARY.encode()),))
    assert len(log.texts()) == 8
    assert "<secret>" in str(log)
    assert CANARY not in str(log)
    assert CANARY not in repr(log)


def test_what_cannot_be_read_is_said_by_its_size() -> None:
    log = Log()
    log.note(1, CLIENT, True, (frame(METHOD, 0, b"\0\x32\0\x0a\xff"),))
    log.note(1, CLIENT, True, (frame(METHOD, 0, b""),))
    log.note(1, CLIENT, True, (frame(99, 0, b"abc"),))
    assert log.texts() == [
        "a frame of type 1 that cannot be read, 5 bytes",
        "a frame of type 1 that cannot be read, 0 bytes",
        "a frame of type 99 that cannot be read, 3 bytes",
    ]


def test_a_long_line_is_shortened() -> None:
    log = Log()
    method = BasicPublish(exchange="e" * 250, routing_key="k" * 250)
    log.note(1, CLIENT, True, (frame(METHOD, 1, method.encode()),))
    (text,) = log.texts()
    assert text == f"{repr(method)[:400]}... ({len(repr(method))} characters)"


def test_a_broker_keeps_one() -> None:
    company = Company(users={"me": CANARY})
    company.connecting().error(AuthenticationError)
    text = str(company.broker.wire_log)
    assert "#1/0 -> AMQP 0-0-9-1" in text
    assert "#1/0 <- ConnectionStart(" in text
    assert "#1/0 -> ConnectionStartOk(" in text
