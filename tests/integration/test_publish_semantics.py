"""What a broker says to publishers, to the letter: confirms, returns, refusals, transactions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.broker_node import BrokerNode
from tests.brokers_plugin import Vhost
from tests.integration.support import is_since
from tests.integration.wire import Wire
from txamqpx.protocol.frames import BODY, HEADER, METHOD, frame, header_frame
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method
from txamqpx.spec.dialect import AMQP_0_9_1
from txamqpx.spec.wire import encode_table

TO_JOBS = amqp.BasicPublish("", "jobs", mandatory=True)
NOWHERE = amqp.BasicPublish("", "nowhere", mandatory=True)
MISSING = amqp.BasicPublish("missing", "jobs")


@pytest.fixture
def wire(vhost: Vhost) -> Iterator[Wire]:
    """Open a connection with channels 1 and 2, and on channel 2 a queue "jobs"."""
    with Wire(vhost.node) as connected:
        connected.open(vhost.name, 1, 2)
        ask(connected, 2, amqp.QueueDeclare("jobs", durable=True))
        yield connected


def ask(wire: Wire, channel: int, method: Any) -> Any:
    """Ask for something, and return the answer."""
    wire.send(channel, method)
    (answer,) = method.responses
    return wire.expect(AMQP_0_9_1.methods[answer], channel)


def content(method: amqp.BasicPublish, header: bytes = b"\0\0", body: bytes = b"") -> bytes:
    """Return a publish on channel 1 with properties made by hand."""
    bodies = frame(BODY, 1, body) if body else b""
    return frame(METHOD, 1, method.encode()) + header_frame(1, 60, header, len(body)) + bodies


def heard(wire: Wire) -> list[Any]:
    """Return all that is said on channel 1 before the answer to a question: contents as header and body."""
    wire.send(1, amqp.ChannelFlow(True))
    said: list[Any] = []
    while True:
        next_frame = wire.frame()
        assert next_frame is not None, f"the broker hung up after {said}"
        kind, channel, payload = next_frame
        assert channel == 1
        if kind == HEADER:
            said.append(payload[12:])
        elif kind == BODY:
            said.append(payload)
        else:
            method = AMQP_0_9_1.methods[int.from_bytes(payload[:4])].decode(payload, 4, len(payload))
            if isinstance(method, amqp.ChannelFlowOk):
                return said
            said.append(method)


def returned(key: str = "nowhere") -> amqp.BasicReturn:
    return amqp.BasicReturn(312, "NO_ROUTE", "", key)


def ready(wire: Wire, queue: str = "jobs") -> int:
    """Return how many messages are ready."""
    count: int = ask(wire, 2, amqp.QueueDeclare(queue, passive=True)).message_count
    return count


# --------------------------------------------------------------------------- confirms


@pytest.mark.covers("T-PUB-03", "T-PUB-04")
def test_each_publish_is_confirmed_once_and_after_its_return(wire: Wire) -> None:
    ask(wire, 1, amqp.ConfirmSelect())
    wire.write(b"".join(content(NOWHERE if n % 2 else TO_JOBS, body=b"%d" % n) for n in range(1, 21)))
    confirmed: set[int] = set()
    came_back: set[int] = set()
    last = None
    while len(confirmed) < 20:
        next_frame = wire.frame()
        assert next_frame is not None
        kind, _, payload = next_frame
        if kind == BODY:
            came_back.add(int(payload))
        if kind != METHOD:
            continue
        last = AMQP_0_9_1.methods[int.from_bytes(payload[:4])].decode(payload, 4, len(payload))
        if isinstance(last, amqp.BasicAck):
            tags = {*range(1, last.delivery_tag + 1)} - confirmed if last.multiple else {last.delivery_tag}
            assert tags.isdisjoint(confirmed)
            assert {tag for tag in tags if tag % 2} <= came_back
            confirmed |= tags
        else:
            assert last == returned()
    assert confirmed == {*range(1, 21)}
    assert ready(wire) == 10


@pytest.mark.covers("T-PUB-12")
def test_a_mode_may_be_chosen_again(wire: Wire) -> None:
    for select in (amqp.ConfirmSelect(), amqp.ConfirmSelect(), amqp.ConfirmSelect(True)):
        wire.send(1, select)
    wire.expect(amqp.ConfirmSelectOk, 1)
    wire.expect(amqp.ConfirmSelectOk, 1)
    wire.write(content(NOWHERE))
    assert wire.expect(amqp.BasicReturn, 1) == returned()
    assert wire.hear() == (1, "header")
    assert wire.expect(amqp.BasicAck, 1) == amqp.BasicAck(1, False)
    for _ in range(2):
        ask(wire, 2, amqp.TxSelect())


@pytest.mark.covers("T-PUB-12")
@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        (amqp.ConfirmSelect(), amqp.TxSelect(), "cannot switch from confirm to tx mode"),
        (amqp.TxSelect(), amqp.ConfirmSelect(), "cannot switch from tx to confirm mode"),
        (None, amqp.TxCommit(), "channel is not transactional"),
        (None, amqp.TxRollback(), "channel is not transactional"),
        (amqp.ConfirmSelect(), amqp.TxCommit(), "channel is not transactional"),
    ],
    ids=str,
)
def test_modes_exclude_each_other(wire: Wire, first: Method | None, second: Method, text: str) -> None:
    if first is not None:
        ask(wire, 1, first)
    wire.send(1, second)
    assert wire.refusal(1) == (
        406,
        f"PRECONDITION_FAILED - {text}",
        second.index >> 16,
        second.index & 0xFFFF,
    )


@pytest.mark.covers("T-PUB-06")
def test_what_a_queue_refuses_is_nacked_alone(wire: Wire) -> None:
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    ask(wire, 2, amqp.QueueDeclare("full", durable=True, arguments=arguments))
    ask(wire, 1, amqp.ConfirmSelect())
    wire.write(content(amqp.BasicPublish("", "full")))
    assert wire.expect(amqp.BasicAck, 1) == amqp.BasicAck(1, False)
    wire.write(content(NOWHERE) + content(amqp.BasicPublish("", "full")) + content(NOWHERE))
    words: dict[int, type[Method]] = {}
    while len(words) < 3:
        said = wire.hear()
        assert said is not None
        word = said[1]
        if isinstance(word, amqp.BasicAck | amqp.BasicNack):
            tags = range(2, word.delivery_tag + 1) if word.multiple else [word.delivery_tag]
            words.update({tag: type(word) for tag in tags if tag not in words})
    assert words == {2: amqp.BasicAck, 3: amqp.BasicNack, 4: amqp.BasicAck}


# --------------------------------------------------------------------------- refusals


@pytest.mark.covers("T-PUB-07", "T-CH-12")
def test_a_missing_exchange_and_what_was_published_around_it(vhost: Vhost, wire: Wire) -> None:
    """What came before is there; if it is confirmed, then ahead of the close."""
    ask(wire, 1, amqp.ConfirmSelect())
    wire.write(content(TO_JOBS) * 3 + content(MISSING) + content(TO_JOBS) * 3)
    wire.send(1, amqp.QueueDeclare("never", durable=True))
    confirmed = 0
    while isinstance(word := (wire.hear() or (1, None))[1], amqp.BasicAck):
        assert word.delivery_tag == 3 if word.multiple else word.delivery_tag == confirmed + 1
        confirmed = word.delivery_tag
    assert isinstance(word, amqp.ChannelClose)
    text = f"NOT_FOUND - no exchange 'missing' in vhost '{vhost.name}'"
    assert (word.reply_code, word.reply_text, word.class_id, word.method_id) == (404, text, 60, 40)
    assert confirmed <= 3
    assert ready(wire) == 3
    wire.send(1, amqp.ChannelCloseOk(), amqp.ChannelOpen())
    wire.expect(amqp.ChannelOpenOk, 1)
    wire.send(2, amqp.QueueDeclare("never", passive=True))
    assert wire.refusal(2)[0] == 404


@pytest.mark.covers("T-PUB-10")
def test_an_internal_exchange(vhost: Vhost, wire: Wire) -> None:
    ask(wire, 2, amqp.ExchangeDeclare("inner", "fanout", internal=True))
    wire.publish(1, amqp.BasicPublish("inner", ""), user_id="wrong, which matters less")
    text = f"ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '{vhost.name}'"
    assert wire.refusal(1) == (403, text, 60, 40)


def test_immediate_is_no_more(wire: Wire) -> None:
    wire.publish(1, amqp.BasicPublish("missing", "", immediate=True))
    assert wire.refusal() == (540, "NOT_IMPLEMENTED - immediate=true", 60, 40)


@pytest.mark.covers("T-PUB-11")
@pytest.mark.parametrize("name", ["other", "", "guest "])
def test_nobody_is_somebody_else(wire: Wire, name: str) -> None:
    wire.publish(1, MISSING, user_id=name)
    assert wire.refusal(1)[0] == 404
    wire.publish(2, TO_JOBS, user_id="guest")
    wire.publish(2, TO_JOBS, user_id=name)
    text = f"user_id property set to '{name}' but authenticated user was 'guest'"
    assert wire.refusal(2) == (406, f"PRECONDITION_FAILED - {text}", 60, 40)


def short(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


@pytest.mark.covers("T-PUB-11")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("soon", "no_integer"),
        ("", "no_integer"),
        (" 5", "no_integer"),
        ("5 ", '{leftover_string," "}'),
        ("1.5", '{leftover_string,".5"}'),
        ("1e3", '{leftover_string,"e3"}'),
        ("0x10", '{leftover_string,"x10"}'),
        ("-1", "{value_negative,-1}"),
        ("+5", None),
        ("05", None),
        ("-0", None),
        ("4294967296", None),
    ],
)
def test_an_expiration_is_a_number(wire: Wire, text: str, reason: str | None) -> None:
    wire.write(content(TO_JOBS, b"\x01\x00" + short(text)))
    if reason is None:
        assert heard(wire) == []
    else:
        said = f"PRECONDITION_FAILED - invalid expiration '{text}': {reason}"
        assert wire.refusal(1) == (406, said, 60, 40)


@pytest.mark.covers("T-PUB-11")
@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"CC": "jobs"}, '"CC",longstr'),
        ({"BCC": 1}, '"BCC",signedint'),
        ({"CC": None}, '"CC",void'),
        ({"CC": {}}, '"CC",table'),
        ({"BCC": "jobs", "CC": 1.5}, '"CC",double'),
    ],
    ids=str,
)
def test_further_keys_are_a_list(wire: Wire, headers: dict[str, Any], reason: str) -> None:
    wire.publish(1, TO_JOBS, headers=headers)
    text = f"invalid message: {{unacceptable_type_in_header,{reason}}}"
    assert wire.refusal(1) == (406, f"PRECONDITION_FAILED - {text}", 60, 40)
    assert ready(wire) == 0


@pytest.mark.covers("T-PUB-11")
def test_further_keys_that_are_none_do_not_count(wire: Wire) -> None:
    ask(wire, 2, amqp.QueueDeclare("copy", durable=True))
    wire.publish(1, NOWHERE, headers={"CC": [1, None, "copy", b"\xff", "copy"], "BCC": [], "cc": "ignored"})
    wire.publish(1, NOWHERE, headers={"BCC": ["copy"], "CC": ["nobody", "x" * 300]})
    assert heard(wire) == []
    assert (ready(wire), ready(wire, "copy")) == (0, 2)


@pytest.mark.covers("T-PUB-11")
def test_what_is_looked_at_first(vhost: Vhost, wire: Wire) -> None:
    wrong = {
        "user_id": (0x10, short("other")),
        "expiration": (0x100, short("soon")),
        "CC": (0x2000, encode_table({"CC": "jobs"})),
    }
    order = ["user_id", "expiration", "CC"]
    if is_since(vhost.node, "4.0"):
        order = ["expiration", "CC", "user_id"]
    wire.send(2, amqp.ChannelClose(200, "", 0, 0))
    wire.expect(amqp.ChannelCloseOk, 2)
    while order:
        header = sum(wrong[name][0] for name in order).to_bytes(2)
        for name in ("CC", "expiration", "user_id"):  # as they follow each other on the wire
            header += wrong[name][1] if name in order else b""
        wire.write(content(TO_JOBS, header))
        assert order.pop(0) in wire.refusal(1)[1]
        wire.send(1, amqp.ChannelCloseOk(), amqp.ChannelOpen())
        wire.expect(amqp.ChannelOpenOk, 1)


def test_delivery_modes_that_there_are_not(vhost: Vhost, wire: Wire) -> None:
    wire.write(content(TO_JOBS, b"\x10\x00\x01") + content(TO_JOBS, b"\x10\x00\x02"))
    assert heard(wire) == []
    wire.write(content(TO_JOBS, b"\x10\x00\x03"))
    if is_since(vhost.node, "4.0"):
        assert heard(wire) == []
    else:
        text = "invalid message: {delivery_mode_unknown,3}"
        assert wire.refusal(1) == (406, f"PRECONDITION_FAILED - {text}", 60, 40)


@pytest.mark.parametrize(
    "header",
    [
        *(b"", b"\0", b"\x80\x00\x05ab", b"\0\0left over", b"\x00\x40\0\0", b"\x20\x00\0\0\0\xff"),
        b"\x20\x00\0\0\0\x03\x01aZ",
    ],
)
def test_properties_that_are_none(wire: Wire, header: bytes) -> None:
    wire.write(content(TO_JOBS, header))
    assert wire.refusal() == (541, "INTERNAL_ERROR", 0, 0)


# --------------------------------------------------------------------------- what comes back


@pytest.mark.covers("T-PUB-04", "T-FR-10")
@pytest.mark.parametrize(
    ("sent", "sorted_by_name"),
    [
        ({"b": 1, "a": {"z": 1, "y": 2}}, {"a": {"z": 1, "y": 2}, "b": 1}),
        ({"é": 1, "aa": 2, "B": 3, "a": 4}, {"B": 3, "a": 4, "aa": 2, "é": 1}),
        ({}, {}),
    ],
    ids=str,
)
def test_properties_as_bytes(
    wire: Wire, broker: BrokerNode, sent: dict[str, Any], sorted_by_name: dict[str, Any]
) -> None:
    """RabbitMQ 4 sorts headers; nothing else is touched."""
    table = encode_table(sorted_by_name if is_since(broker, "4.0") else sent)
    before, after = b"\xe8\x80" + short("text/plain") + short("utf-8"), b"\x07" + short("id")
    wire.write(content(NOWHERE, before + encode_table(sent) + after, b"body"))
    assert heard(wire) == [returned(), before + table + after, b"body"]


@pytest.mark.covers("T-PUB-04")
def test_blind_copies_are_struck_out_of_what_comes_back(wire: Wire) -> None:
    for sent, back in (
        ({"BCC": ["a"], "CC": ["b"], "n": 1}, {"CC": ["b"], "n": 1}),
        ({"BCC": ["a"]}, {}),
    ):
        wire.publish(1, NOWHERE, b"", headers=sent)
        assert heard(wire) == [returned(), amqp.BasicProperties(headers=back).encode()]


# --------------------------------------------------------------------------- transactions


@pytest.mark.covers("S55")
def test_returns_come_at_the_commit_in_order(wire: Wire) -> None:
    ask(wire, 1, amqp.TxSelect())
    wire.write(content(NOWHERE, body=b"1") + content(TO_JOBS) + content(NOWHERE, body=b"2"))
    assert heard(wire) == []
    assert ready(wire) == 0
    wire.send(1, amqp.TxCommit())
    for body in (b"1", b"2"):
        assert wire.expect(amqp.BasicReturn, 1) == returned()
        assert wire.frame() == (HEADER, 1, header_frame(1, 60, b"\0\0", 1)[7:-1])
        assert wire.frame() == (BODY, 1, body)
    wire.expect(amqp.TxCommitOk, 1)
    assert ready(wire) == 1
    wire.write(content(NOWHERE))
    ask(wire, 1, amqp.TxRollback())
    ask(wire, 1, amqp.TxCommit())


@pytest.mark.covers("S55")
def test_ways_are_those_of_the_publish(wire: Wire) -> None:
    bound = "jobs", "amq.direct", "key"
    ask(wire, 1, amqp.TxSelect())
    publish = content(amqp.BasicPublish("amq.direct", "key", mandatory=True), body=b"x")
    ask(wire, 2, amqp.QueueBind(*bound))
    wire.write(publish)
    assert heard(wire) == []
    ask(wire, 2, amqp.QueueUnbind(*bound))
    wire.write(publish)
    assert heard(wire) == []
    ask(wire, 2, amqp.QueueBind(*bound))
    wire.send(1, amqp.TxCommit())
    wire.expect(amqp.BasicReturn, 1)
    assert [wire.hear(), wire.hear()] == [(1, "header"), (1, "body")]
    wire.expect(amqp.TxCommitOk, 1)
    assert ready(wire) == 1


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made anew"])
def test_a_queue_that_goes_before_the_commit(vhost: Vhost, wire: Wire, again: bool) -> None:
    ask(wire, 1, amqp.TxSelect())
    wire.write(content(TO_JOBS))
    assert heard(wire) == []
    ask(wire, 2, amqp.QueueDelete("jobs"))
    if again:
        ask(wire, 2, amqp.QueueDeclare("jobs", durable=True))
    wire.send(1, amqp.TxCommit())
    if is_since(vhost.node, "4.0"):
        if again:
            assert wire.refusal(1) == (406, "PRECONDITION_FAILED - partial tx completion", 90, 20)
            assert ready(wire) == 0
        else:
            code, text, *culprit = wire.refusal()
            assert (code, *culprit) == (506, 90, 20)
            where = f'{{resource,<<"{vhost.name}">>,queue,<<"jobs">>}}'
            said = f"RESOURCE_ERROR - failed to deliver message: {{not_found,{where}}}"
            assert "".join(text.split()) == "".join(said.split())  # Erlang breaks long lines
        return
    if not again:
        assert wire.expect(amqp.BasicReturn, 1) == returned("jobs")
        assert wire.hear() == (1, "header")
    wire.expect(amqp.TxCommitOk, 1)
    assert not again or ready(wire) == 1


@pytest.mark.covers("T-PUB-06", "S55")
def test_a_commit_that_a_queue_refuses(wire: Wire) -> None:
    arguments = {"x-max-length": 0, "x-overflow": "reject-publish"}
    ask(wire, 2, amqp.QueueDeclare("full", durable=True, arguments=arguments))
    ask(wire, 1, amqp.TxSelect())
    wire.write(content(amqp.BasicPublish("", "full")) + content(TO_JOBS))
    wire.send(1, amqp.TxCommit())
    assert wire.refusal(1) == (406, "PRECONDITION_FAILED - partial tx completion", 90, 20)
    assert ready(wire) == 1


@pytest.mark.covers("S55", "T-ACK-03")
def test_what_is_settled_counts_from_the_commit_on(wire: Wire) -> None:
    """Until then it takes up the room that it had."""
    for number in range(4):
        wire.publish(2, TO_JOBS, b"%d" % number)
    ask(wire, 1, amqp.TxSelect())
    ask(wire, 1, amqp.BasicQos(0, 2))
    ask(wire, 1, amqp.BasicConsume("jobs", "c"))

    def delivered(tag: int, redelivered: bool = False) -> list[Any]:
        return [amqp.BasicDeliver("c", tag, redelivered, "", "jobs"), "header", "body"]

    def next_words(count: int) -> list[Any]:
        return [(wire.hear() or (1, None))[1] for _ in range(count)]

    assert next_words(6) == delivered(1) + delivered(2)
    wire.send(1, amqp.BasicAck(1))
    assert heard(wire) == []
    wire.send(1, amqp.TxCommit())
    assert next_words(4) == [amqp.TxCommitOk(), *delivered(3)]
    wire.send(1, amqp.BasicReject(2, False))
    ask(wire, 1, amqp.TxRollback())
    wire.send(1, amqp.BasicAck(2), amqp.TxCommit())
    assert next_words(4) == [amqp.TxCommitOk(), *delivered(4)]
    wire.send(1, amqp.BasicNack(3, False, True))
    assert heard(wire) == []
    wire.send(1, amqp.TxCommit())
    assert next_words(4) == [amqp.TxCommitOk(), *delivered(5, True)]
    wire.send(1, amqp.BasicNack(5, True, False))
    ask(wire, 1, amqp.ChannelClose(200, "", 0, 0))
    assert ready(wire) == 2


@pytest.mark.covers("S55", "T-ACK-01")
@pytest.mark.parametrize(
    ("first", "second", "tag"),
    [
        (amqp.BasicAck(1), amqp.BasicAck(1), 1),
        (amqp.BasicAck(2, True), amqp.BasicReject(1, True), 1),
        (amqp.BasicNack(1), amqp.BasicNack(9, True), 9),
    ],
)
def test_what_is_settled_twice_is_refused_at_once(
    wire: Wire, first: Method, second: Method, tag: int
) -> None:
    for number in range(2):
        wire.publish(2, TO_JOBS, b"%d" % number)
    ask(wire, 1, amqp.TxSelect())
    for _ in range(2):
        wire.send(1, amqp.BasicGet("jobs"))
        wire.expect(amqp.BasicGetOk, 1)
        assert [wire.hear(), wire.hear()] == [(1, "header"), (1, "body")]
    wire.write(content(TO_JOBS))
    wire.send(1, first, second)
    text = f"PRECONDITION_FAILED - unknown delivery tag {tag}"
    assert wire.refusal(1) == (406, text, 60, second.index & 0xFFFF)
    wire.send(1, amqp.ChannelCloseOk(), amqp.ChannelOpen())
    wire.expect(amqp.ChannelOpenOk, 1)
    assert ready(wire) == 2


@pytest.mark.covers("S55")
def test_what_a_transaction_holds_is_not_recovered(wire: Wire) -> None:
    for number in range(2):
        wire.publish(2, TO_JOBS, b"%d" % number)
    ask(wire, 1, amqp.TxSelect())
    for _ in range(2):
        wire.send(1, amqp.BasicGet("jobs"))
        wire.expect(amqp.BasicGetOk, 1)
        assert [wire.hear(), wire.hear()] == [(1, "header"), (1, "body")]
    wire.send(1, amqp.BasicAck(1))
    ask(wire, 1, amqp.BasicRecover(True))
    assert ready(wire) == 1
    ask(wire, 1, amqp.TxRollback())
    wire.send(1, amqp.BasicAck(0, True))
    ask(wire, 1, amqp.TxCommit())
    ask(wire, 1, amqp.ChannelClose(200, "", 0, 0))
    assert ready(wire) == 1
