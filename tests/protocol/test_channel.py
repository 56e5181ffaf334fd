from __future__ import annotations

from typing import Any

import pytest

from tests.protocol.pair import (
    NO_PROPERTIES,
    Said,
    assert_all_back,
    assert_said,
    client,
    confirms_in,
    consuming,
    deliver,
    ended_with,
    failures,
    fresh_client,
    of_kind,
    one,
    only,
    open_channel,
    publish,
    said,
    say,
    served_channel,
    server,
)
from txamqpx.errors import (
    AccessRefused,
    AlreadySettled,
    ChannelClosed,
    ConsumerTagInUse,
    EncodeError,
    LocalProtocolError,
    NotFound,
    NotProcessed,
    NotPublished,
    OutboxFull,
    OutcomeUnknown,
    PreconditionFailed,
    RemoteProtocolError,
    UnknownDelivery,
)
from txamqpx.protocol import events
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.states import ChannelState, Mode
from txamqpx.protocol.tuning import Tuning
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicCancel,
    BasicCancelOk,
    BasicConsume,
    BasicConsumeOk,
    BasicDeliver,
    BasicGet,
    BasicGetEmpty,
    BasicGetOk,
    BasicNack,
    BasicProperties,
    BasicPublish,
    BasicQos,
    BasicQosOk,
    BasicRecover,
    BasicRecoverAsync,
    BasicRecoverOk,
    BasicReject,
    ChannelClose,
    ChannelCloseOk,
    ChannelFlow,
    ChannelOpen,
    ChannelOpenOk,
    ConfirmSelect,
    ConfirmSelectOk,
    QueueBind,
    QueueBindOk,
    QueueDeclare,
    QueueDeclareOk,
    QueuePurge,
    TxCommit,
    TxCommitOk,
    TxRollback,
    TxRollbackOk,
    TxSelect,
    TxSelectOk,
)
from txamqpx.spec.base import Method
from txamqpx.spec.dialect import from_spec
from txamqpx.spec.xmlspec import bundled

NOT_FOUND = "NOT_FOUND - no queue 'gone' in vhost '/'"
NO_EXCHANGE = "NOT_FOUND - no exchange 'gone' in vhost '/'"


@pytest.fixture
def core() -> Connection:
    return client()


@pytest.fixture
def channel(core: Connection) -> ChannelCore:
    return open_channel(core)


def closed_by_peer(code: int = 404, text: str = NOT_FOUND, failed: type[Method] | None = None) -> bytes:
    index = failed.index if failed else 0
    return say(ChannelClose(code, text, index >> 16, index & 0xFFFF))


# --------------------------------------------------------------------------- requests and answers


@pytest.mark.covers("T-CH-05", "T-CH-08")
def test_requests_may_be_pipelined_and_are_answered_in_order(core: Connection, channel: ChannelCore) -> None:
    for token in "abc":
        channel.send(QueueDeclare(token), token)
    assert_said(core, *(QueueDeclare(token) for token in "abc"))
    happened = core.receive_data(b"".join(say(QueueDeclareOk(token)) for token in "abc"))
    assert [(event.token, event.method) for event in of_kind(events.Replied, happened)] == [
        (token, QueueDeclareOk(token)) for token in "abc"
    ]


@pytest.mark.covers("T-CH-08")
def test_methods_may_follow_channel_open_at_once(core: Connection) -> None:
    channel = core.open_channel("opened")
    channel.send(QueueDeclare("x"), "declared")
    publish(channel, None)
    assert [type(word.method) for word in said(core)] == [ChannelOpen, QueueDeclare, BasicPublish]
    happened = core.receive_data(say(ChannelOpenOk()) + say(QueueDeclareOk("x")))
    assert_all_back(["opened", "declared"], happened)


@pytest.mark.covers("T-CH-05")
def test_an_answer_out_of_order_is_not_guessed_at(core: Connection, channel: ChannelCore) -> None:
    channel.send(BasicQos(), "qos")
    channel.send(QueueDeclare("x"), "declare")
    happened = core.receive_data(say(QueueDeclareOk("x")))
    assert_all_back(["qos", "declare"], happened)
    assert "queue.declare-ok came on channel 1, where basic.qos was asked" in str(ended_with(happened))


@pytest.mark.covers("T-CH-05")
def test_what_comes_on_its_own_account_does_not_disturb_the_order(core: Connection) -> None:
    channel = consuming(core)
    channel.send(BasicQos(), "qos")
    channel.send(BasicGet("q"), "get")
    happened = core.receive_data(
        deliver(1) + say(BasicQosOk()) + deliver(2) + say(BasicGetEmpty()) + deliver(3)
    )
    assert [type(event).__name__ for event in happened] == [
        "Delivered",
        "Replied",
        "Delivered",
        "Replied",
        "Delivered",
    ]


def test_a_request_that_says_no_wait_is_answered_by_nobody(core: Connection, channel: ChannelCore) -> None:
    channel.send(QueueDeclare("x", no_wait=True), "never")
    channel.send(QueueDeclare("y"), "declared")
    assert only(events.Replied, core.receive_data(say(QueueDeclareOk("y")))).token == "declared"
    assert not channel.waiting


@pytest.mark.covers("T-CH-06")
def test_a_request_without_a_token_keeps_its_place(core: Connection, channel: ChannelCore) -> None:
    channel.send(BasicQos())
    channel.send(BasicQos(), "second")
    happened = core.receive_data(say(BasicQosOk()) * 2)
    assert [event.token for event in of_kind(events.Replied, happened)] == [None, "second"]


@pytest.mark.covers("T-CH-09")
def test_several_gets_may_wait_and_are_answered_in_order(core: Connection, channel: ChannelCore) -> None:
    for token in "abc":
        channel.send(BasicGet("q", token == "c"), token)
    properties = BasicProperties(message_id="m")
    happened = core.receive_data(
        say(BasicGetOk(1, True, "e", "k", 9), 1, b"body", properties)
        + say(BasicGetEmpty())
        + say(BasicGetOk(2, False, "e", "k", 8), 1, b"")
    )
    first, second, third = of_kind(events.Replied, happened)
    assert [event.token for event in (first, second, third)] == ["a", "b", "c"]
    message = first.method
    assert isinstance(message, events.Delivered)
    assert (message.delivery_tag, message.redelivered, message.message_count) == (1, True, 9)
    assert (message.exchange, message.routing_key, message.consumer, message.consumer_tag) == (
        "e",
        "k",
        None,
        "",
    )
    assert (message.body, message.properties, message.settled) == (b"body", properties, False)
    assert second.method == BasicGetEmpty()
    assert isinstance(third.method, events.Delivered)
    assert (third.method.body, third.method.settled) == (b"", True)
    channel.ack(1)
    with pytest.raises(AlreadySettled):
        channel.ack(2)


# --------------------------------------------------------------------------- refused here


@pytest.mark.covers("S41", "T-CH-04")
def test_a_channel_that_was_never_opened_refuses_everything(core: Connection) -> None:
    channel = ChannelCore(core, 9)
    calls: list[Any] = [
        lambda: channel.send(BasicQos(), "token"),
        lambda: publish(channel, "token"),
        lambda: channel.ack(1),
        lambda: channel.send_content(BasicPublish(), NO_PROPERTIES, b""),
    ]
    for call in calls:
        with pytest.raises(LocalProtocolError, match="is not allowed on channel 9, which is closed"):
            call()
    assert not core.outbox


@pytest.mark.covers("S41", "T-PUB-10")
def test_a_channel_that_we_closed_refuses_everything_by_its_own_error(
    core: Connection, channel: ChannelCore
) -> None:
    channel.send(ChannelClose(200, "enough"), "closed")
    core.outbox.take()
    calls: list[Any] = [
        lambda: channel.send(BasicQos(), "token"),
        lambda: channel.send(ChannelClose(), "token"),
        lambda: channel.send(ChannelOpen(), "token"),
        lambda: publish(channel, "token"),
        lambda: channel.ack(1),
    ]
    for step in range(2):
        for call in calls:
            with pytest.raises(ChannelClosed, match="enough") as caught:
                call()
            assert caught.value is not channel.error
            assert caught.value.__cause__ is channel.error
        assert not core.outbox
        if not step:
            core.receive_data(say(ChannelCloseOk()))
    assert core.is_open


@pytest.mark.covers("S45", "T-PUB-10")
def test_a_channel_that_the_broker_closed_refuses_everything_by_the_brokers_words(
    core: Connection, channel: ChannelCore
) -> None:
    core.receive_data(closed_by_peer())
    core.outbox.take()
    with pytest.raises(NotFound) as caught:
        publish(channel, "token")
    assert caught.value.queue == "gone"
    assert not core.outbox


@pytest.mark.covers("T-FR-08", "T-PUB-02")
@pytest.mark.parametrize(
    ("method", "field"),
    [
        (QueueDeclare("é" * 128), "queue.declare queue"),
        (QueueDeclare("\ud800"), "queue.declare queue"),
        (QueueDeclare(None), "queue.declare queue"),  # type: ignore[arg-type]
        (QueueDeclare("x", durable=1), "queue.declare durable"),  # type: ignore[arg-type]
        (QueueDeclare("x", arguments={"a": object()}), "queue.declare arguments > 'a'"),
        (QueueBind("q", "e", "k" * 256), "queue.bind routing_key"),
        (BasicQos(0, 65536), "basic.qos prefetch_count"),
        (BasicQos(0, -1), "basic.qos prefetch_count"),
        (BasicQos(0, True), "basic.qos prefetch_count"),
        (BasicConsume("q", "c" * 256), "basic.consume consumer_tag"),
        (BasicAck(2**64), "basic.ack delivery_tag"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name_and_leaves_no_trace(
    core: Connection, channel: ChannelCore, method: Method, field: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        channel.send(method, "token")
    assert caught.value.field == field
    assert not core.outbox
    assert not channel.waiting
    assert not channel.consumers


def test_arguments_that_do_not_fit_a_frame_are_refused(core: Connection, channel: ChannelCore) -> None:
    with pytest.raises(EncodeError, match=r"queue\.declare: takes \d+ bytes, a frame holds 131064"):
        channel.send(QueueDeclare("x", arguments={"a": "x" * 131064}), "token")
    assert not core.outbox


@pytest.mark.covers("T-FR-03")
def test_a_method_never_goes_without_its_content(core: Connection, channel: ChannelCore) -> None:
    with pytest.raises(LocalProtocolError, match=r"basic\.publish needs a content"):
        channel.send(BasicPublish("e", "k"))
    assert not core.outbox


@pytest.mark.covers("T-CH-10")
def test_nothing_is_published_while_the_broker_asks_for_a_pause(core: Connection) -> None:
    channel = open_channel(core, confirm=True)
    core.receive_data(say(ChannelFlow(False)))
    core.outbox.take()
    with pytest.raises(NotPublished, match="asked not to publish on channel 1"):
        publish(channel, "refused")
    assert not core.outbox
    core.receive_data(say(ChannelFlow(True)))
    assert publish(channel, "one")
    assert_all_back(["one"], core.receive_data(say(BasicAck(1))))


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_method_of_the_other_side_is_refused(role: str) -> None:
    core = client() if role == "client" else server()
    channel = open_channel(core) if role == "client" else served_channel(core)
    method = QueueDeclareOk("x") if role == "client" else QueueDeclare("x")
    with pytest.raises(LocalProtocolError, match=f"{method.name} is not allowed on channel 1, which is open"):
        channel.send(method, "token")
    assert not core.outbox


def test_the_outbox_has_a_limit_but_not_for_a_close() -> None:
    core = client(max_outbox=200)
    channel = open_channel(core, confirm=True)
    assert publish(channel, "first", b"x" * 100)
    with pytest.raises(OutboxFull, match="the limit is 200"):
        publish(channel, "second", b"x" * 100)
    assert channel.confirms is not None
    assert (len(channel.confirms), channel.confirms.next_seq) == (1, 2)
    while core.outbox.size <= 200:
        channel.send(BasicQos(), "qos")
    waiting = len(channel.waiting)
    with pytest.raises(OutboxFull, match="the limit is 200"):
        channel.send(BasicQos(), "too much")
    assert len(channel.waiting) == waiting
    channel.send(ChannelClose(), "closed")
    core.outbox.take()
    assert_all_back(["first", *["qos"] * waiting], core.take_events())


def test_where_nobody_can_be_woken_nothing_changes() -> None:
    def refuse() -> None:
        raise RuntimeError("another thread")

    core = client()
    channel = consuming(core, channel=open_channel(core, confirm=True))
    message = only(events.Delivered, core.receive_data(deliver(1)))
    core.outbox.wake = refuse
    calls: list[Any] = [
        lambda: channel.ack(1),
        lambda: channel.send(BasicReject(1)),
        lambda: channel.send(BasicConsume("q", "d"), "consuming"),
        lambda: publish(channel, "one"),
        lambda: channel.send(ChannelClose(), "closed"),
        lambda: core.open_channel("opened"),
        lambda: core.close("closed"),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="another thread"):
            call()
    assert not message.settled
    assert not core.outbox
    assert core.is_open
    assert list(core.channels) == [1]
    assert list(channel.consumers) == [b"c"]
    assert core.connection_lost() != []
    assert channel.state is ChannelState.CLOSED


def test_a_publish_of_just_the_size_that_fits_is_taken() -> None:
    core = client(max_outbox=1000)
    channel = open_channel(core)
    publish(channel, None, b"x" * 100)
    left = 1000 - core.outbox.size
    overhead = core.outbox.size - 100
    with pytest.raises(OutboxFull):
        publish(channel, None, b"x" * (left - overhead + 1))
    publish(channel, None, b"x" * (left - overhead))
    assert core.outbox.size == 1000


# --------------------------------------------------------------------------- publishing


@pytest.mark.covers("T-PUB-01")
def test_publishes_are_numbered_from_the_moment_confirm_select_is_sent(core: Connection) -> None:
    channel = open_channel(core)
    assert not publish(channel, "unnumbered")
    channel.send(ConfirmSelect(), "selected")
    assert publish(channel, "one")
    assert publish(channel, "two")
    happened = core.receive_data(say(ConfirmSelectOk()) + say(BasicAck(2)) + say(BasicAck(1)))
    assert confirms_in(happened) == [("Confirmed", 2, False, ["two"]), ("Confirmed", 1, False, ["one"])]
    assert_all_back(["selected", "one", "two"], happened)


@pytest.mark.covers("T-PUB-01", "T-PUB-02")
def test_a_refused_publish_gets_no_number(core: Connection) -> None:
    channel = open_channel(core, confirm=True)
    publish(channel, "one")
    with pytest.raises(EncodeError):
        publish(channel, "refused", routing_key="k" * 256)
    publish(channel, "two")
    assert_all_back(["one", "two"], core.receive_data(say(BasicAck(2, True))))
    assert len(said(core)) == 2


def test_selecting_confirms_again_goes_on_counting(core: Connection) -> None:
    channel = open_channel(core, confirm=True)
    publish(channel, "one")
    channel.send(ConfirmSelect(), "again")
    publish(channel, "two")
    assert confirms_in(core.receive_data(say(ConfirmSelectOk()) + say(BasicAck(2)))) == [
        ("Confirmed", 2, False, ["two"])
    ]


@pytest.mark.covers("T-FR-03")
def test_contents_of_two_channels_never_mix(core: Connection) -> None:
    first, second = open_channel(core), open_channel(core)
    for channel in (first, second, first):
        publish(channel, None, b"x" * 300_000)
    assert [word.channel for word in said(core)] == [1, 2, 1]  # each of them whole


@pytest.mark.covers("T-PUB-12")
def test_confirms_and_transactions_do_not_go_together(core: Connection) -> None:
    confirming, transacting, plain = (open_channel(core) for _ in range(3))
    confirming.send(ConfirmSelect(), "selected")
    transacting.send(TxSelect(), "selected")
    core.outbox.take()
    for channel, method, mode in (
        (confirming, TxSelect(), "confirm"),
        (transacting, ConfirmSelect(), "transaction"),
        (plain, TxCommit(), "plain"),
        (confirming, TxRollback(), "confirm"),
    ):
        with pytest.raises(
            LocalProtocolError, match=f"{method.name} is not allowed in {mode} mode"
        ) as caught:
            channel.send(method, "token")
        assert caught.value.reply_code == 406
    assert not core.outbox
    assert (confirming.mode, transacting.mode, plain.mode) == (Mode.CONFIRM, Mode.TRANSACTION, Mode.PLAIN)


# --------------------------------------------------------------------------- consumers


@pytest.mark.covers("T-CON-01")
def test_a_consumer_is_known_before_it_is_asked_for(core: Connection, channel: ChannelCore) -> None:
    channel.send(BasicConsume("q", "c"), "consuming", consumer="handler")
    happened = core.receive_data(say(BasicConsumeOk("c")) + deliver(1))
    assert one(events.Delivered, happened).consumer == "handler"


@pytest.mark.covers("T-CON-01")
def test_a_delivery_may_come_even_before_the_answer(core: Connection, channel: ChannelCore) -> None:
    channel.send(BasicConsume("q", "c"), "consuming", consumer="handler")
    happened = core.receive_data(deliver(1) + say(BasicConsumeOk("c")))
    assert [type(event) for event in happened] == [events.Delivered, events.Replied]


@pytest.mark.covers("T-CON-02", "S53")
def test_a_tag_can_be_used_once_on_each_channel(core: Connection) -> None:
    first, second = open_channel(core), open_channel(core)
    for channel in (first, second):
        channel.send(BasicConsume("q", "c"), "consuming", consumer=channel.number)
    core.outbox.take()
    with pytest.raises(ConsumerTagInUse, match="channel 1 has a consumer 'c' already") as caught:
        first.send(BasicConsume("q", "c"), "again", consumer="other")
    assert caught.value.reply_code == 530
    assert not core.outbox
    happened = core.receive_data(deliver(1) + deliver(1, channel=2))
    assert [event.consumer for event in of_kind(events.Delivered, happened)] == [1, 2]


@pytest.mark.covers("T-CON-02")
def test_a_tag_is_in_use_as_long_as_one_cancel_of_it_is_not_answered(core: Connection) -> None:
    channel = consuming(core)
    channel.send(BasicCancel("c"), "first")
    channel.send(BasicCancel("c"), "second")
    core.receive_data(say(BasicCancelOk("c")))
    with pytest.raises(ConsumerTagInUse):
        channel.send(BasicConsume("q", "c"), "consuming")
    channel.send(BasicConsume("q", "d"), "consuming")
    core.receive_data(say(BasicCancelOk("c")) + say(BasicConsumeOk("d")))
    consuming(core, channel=channel)


@pytest.mark.covers("T-CON-01")
def test_a_consumer_without_a_tag_is_refused(core: Connection, channel: ChannelCore) -> None:
    with pytest.raises(LocalProtocolError, match="needs a consumer tag"):
        channel.send(BasicConsume("q"), "consuming")
    assert not core.outbox


def test_tags_that_the_channel_makes_are_all_different(core: Connection) -> None:
    first, second = open_channel(core), open_channel(core)
    tags = [channel.next_consumer_tag() for channel in (first, first, second)]
    assert tags == ["ctag-1.1", "ctag-1.2", "ctag-2.1"]


@pytest.mark.covers("T-CON-03")
def test_a_cancelled_consumer_gets_what_is_on_its_way_until_the_answer(core: Connection) -> None:
    channel = consuming(core)
    channel.send(BasicCancel("c"), "cancelled")
    happened = core.receive_data(deliver(1) + say(BasicCancelOk("c")) + deliver(2))
    assert [type(event) for event in happened] == [events.Delivered, events.Replied, events.Delivered]
    assert [event.consumer for event in of_kind(events.Delivered, happened)] == ["C", None]
    assert channel.strays == 1
    consuming(core, "c", channel=channel)


def test_cancelling_a_tag_that_nobody_has_is_harmless(core: Connection) -> None:
    channel = consuming(core)
    channel.send(BasicCancel("unknown"), "cancelled")
    core.receive_data(say(BasicCancelOk("unknown")))
    assert one(events.Delivered, core.receive_data(deliver(1))).consumer == "C"


@pytest.mark.covers("T21", "T-CON-03")
@pytest.mark.parametrize("version", ["0-8", "0-9"])
def test_a_consumer_of_an_older_version_is_cancelled_as_well(version: str) -> None:
    dialect = from_spec(bundled(version))
    core = fresh_client(dialect=dialect)
    start = dialect.new(
        "connection.start", version_major=dialect.major, version_minor=dialect.minor, mechanisms="PLAIN"
    )
    opening = [start, dialect.new("connection.tune", channel_max=9), dialect.new("connection.open-ok")]
    core.receive_data(b"".join(say(method, 0) for method in opening))
    channel = core.open_channel("opened")
    channel.send(dialect.new("basic.consume", queue="q", consumer_tag="c"), "consuming", consumer="C")
    answers = [dialect.new("channel.open-ok"), dialect.new("basic.consume-ok", consumer_tag="c")]
    assert_all_back(["opened", "consuming"], core.receive_data(b"".join(map(say, answers))))
    channel.send(dialect.new("basic.cancel", consumer_tag="c"), "cancelled")
    happened = core.receive_data(say(dialect.new("basic.cancel-ok", consumer_tag="c")))
    assert_all_back(["cancelled"], happened)
    assert not channel.consumers


@pytest.mark.covers("T-CON-10")
def test_a_consumer_cannot_be_cancelled_before_the_broker_has_answered(
    core: Connection, channel: ChannelCore
) -> None:
    channel.send(BasicConsume("q", "c"), "consuming")
    core.outbox.take()
    with pytest.raises(LocalProtocolError, match="consumer 'c' cannot be cancelled before") as caught:
        channel.send(BasicCancel("c"), "cancelled")
    assert caught.value.operation == "basic.cancel"
    assert not core.outbox
    core.receive_data(say(BasicConsumeOk("c")))
    channel.send(BasicCancel("c"), "cancelled")
    assert_said(core, BasicCancel("c"))


@pytest.mark.covers("T-CON-10")
def test_deliveries_of_a_consumer_that_was_given_up_are_nobodys(core: Connection) -> None:
    channel = consuming(core)
    channel.orphan("c")
    channel.orphan("unknown")
    message = only(events.Delivered, core.receive_data(deliver(1)))
    assert (message.consumer, message.consumer_tag) == (None, "c")


@pytest.mark.covers("T-CH-05")
def test_answers_about_consumers_may_be_overtaken_and_are_known_by_their_tags(
    core: Connection, channel: ChannelCore
) -> None:
    for tag in "ab":
        channel.send(BasicConsume("q", tag), f"consuming {tag}")
    channel.send(BasicQos(), "qos")
    channel.send(BasicGet("q"), "got")
    happened = core.receive_data(say(BasicConsumeOk("b")) + say(BasicQosOk()) + say(BasicGetOk(1), 1, b""))
    assert [event.token for event in of_kind(events.Replied, happened)] == ["consuming b", "qos", "got"]
    channel.send(BasicCancel("b"), "cancelled b")
    channel.send(BasicQos(), "qos")
    happened = core.receive_data(say(BasicQosOk()) + say(BasicConsumeOk("a")) + say(BasicCancelOk("b")))
    tokens = [event.token for event in of_kind(events.Replied, happened)]
    assert tokens == ["qos", "consuming a", "cancelled b"]


@pytest.mark.covers("T-CH-05")
@pytest.mark.parametrize("answer", [BasicConsumeOk("other"), BasicCancelOk("c"), BasicQosOk()])
def test_an_answer_about_another_consumer_is_nobodys(
    core: Connection, channel: ChannelCore, answer: Method
) -> None:
    channel.send(BasicConsume("q", "c"), "consuming")
    happened = core.receive_data(say(answer))
    assert_all_back(["consuming"], happened)
    assert f"{answer.name} came on channel 1, where basic.consume was asked" in str(ended_with(happened))


# --------------------------------------------------------------------------- settling


@pytest.mark.covers("T-ACK-02")
@pytest.mark.parametrize(
    "method", [BasicAck(1), BasicNack(1), BasicReject(1), BasicAck(1, True), BasicNack(1, True)]
)
def test_a_delivery_is_settled_once_in_whatever_way(core: Connection, method: Method) -> None:
    channel = consuming(core)
    message = only(events.Delivered, core.receive_data(deliver(1)))
    channel.send(method)
    assert_said(core, method)
    assert message.settled
    for again in (BasicAck(1), BasicNack(1, True), BasicReject(1)):
        with pytest.raises(AlreadySettled):
            channel.send(again)
    with pytest.raises(AlreadySettled):
        channel.ack(1)
    assert not core.outbox


@pytest.mark.covers("T-ACK-02")
def test_the_short_way_to_ack_says_the_same(core: Connection) -> None:
    channel = consuming(core, channel=open_channel(core))
    core.receive_data(deliver(1) + deliver(2))
    channel.ack(2)
    channel.send(BasicAck(1))
    assert said(core) == [Said(1, BasicAck(2)), Said(1, BasicAck(1))]


@pytest.mark.covers("T-ACK-01", "T-ACK-02")
def test_a_tag_of_another_channel_is_unknown_here(core: Connection) -> None:
    first, second = consuming(core), open_channel(core)
    core.receive_data(deliver(1))
    for method in (BasicAck(1), BasicNack(1), BasicReject(1), BasicAck(5, True)):
        with pytest.raises(UnknownDelivery):
            second.send(method)
    with pytest.raises(UnknownDelivery):
        second.ack(1)
    assert not core.outbox
    first.ack(1)


@pytest.mark.covers("T-ACK-01")
def test_a_delivery_belongs_to_the_channel_that_gave_it_not_to_its_number() -> None:
    core = client(tuning=Tuning(1, 131072, 0))
    old = consuming(core)
    message = only(events.Delivered, core.receive_data(deliver(1)))
    core.receive_data(closed_by_peer())
    new = consuming(core)
    core.receive_data(deliver(1))
    assert old.number == new.number
    assert message.settled
    with pytest.raises(ChannelClosed):
        message.core.ack(message.delivery_tag)
    assert not core.outbox
    new.ack(1)


@pytest.mark.covers("T-ACK-03")
def test_several_can_be_settled_at_once_and_zero_is_all(core: Connection) -> None:
    channel = consuming(core)
    core.receive_data(b"".join(deliver(tag) for tag in range(1, 6)))
    channel.send(BasicAck(2, True))
    assert len(channel.unsettled) == 3
    with pytest.raises(UnknownDelivery):
        channel.send(BasicAck(0))
    channel.send(BasicNack(0, True))
    assert len(channel.unsettled) == 0
    assert_said(core, BasicAck(2, True), BasicNack(0, True))


@pytest.mark.covers("T-ACK-05")
def test_what_wants_no_ack_cannot_be_settled(core: Connection) -> None:
    channel = consuming(core, no_ack=True)
    message = only(events.Delivered, core.receive_data(deliver(1)))
    assert message.settled
    for method in (BasicAck(1), BasicNack(1), BasicReject(1)):
        with pytest.raises(AlreadySettled):
            channel.send(method)
    assert not core.outbox


@pytest.mark.covers("T-ACK-04")
@pytest.mark.parametrize("method", [BasicRecover(True), BasicRecoverAsync(True)])
def test_after_a_recover_what_was_delivered_is_stale(core: Connection, method: Method) -> None:
    channel = consuming(core)
    message = only(events.Delivered, core.receive_data(deliver(1)))
    channel.send(method, "recovered")
    assert message.settled
    with pytest.raises(AlreadySettled):
        channel.ack(1)
    answer = say(BasicRecoverOk()) if method.expects_reply else b""
    core.receive_data(answer + deliver(2))
    channel.ack(2)


@pytest.mark.covers("T-ACK-04")
def test_what_crosses_a_recover_is_stale_and_what_follows_the_last_one_is_not(core: Connection) -> None:
    channel = consuming(core)
    channel.send(BasicRecover(True), "first")
    channel.send(BasicRecover(True), "second")
    words = [deliver(1), say(BasicRecoverOk()), deliver(2), say(BasicRecoverOk()), deliver(3)]
    happened = core.receive_data(b"".join(words))
    assert [message.settled for message in of_kind(events.Delivered, happened)] == [True, True, False]
    channel.ack(3)


@pytest.mark.covers("T-ACK-04")
def test_after_the_end_of_the_channel_what_was_delivered_is_stale(core: Connection) -> None:
    consuming(core)
    message = only(events.Delivered, core.receive_data(deliver(1)))
    core.receive_data(closed_by_peer())
    assert message.settled


# --------------------------------------------------------------------------- transactions


def transacting(core: Connection) -> ChannelCore:
    channel = consuming(core)
    core.receive_data(b"".join(deliver(tag) for tag in (1, 2, 3)))
    channel.send(TxSelect(), "selected")
    core.receive_data(say(TxSelectOk()))
    core.outbox.take()
    return channel


def test_what_a_rolled_back_transaction_settled_can_be_settled_again(core: Connection) -> None:
    channel = transacting(core)
    channel.ack(1)
    channel.send(TxRollback(), "rolled back")
    core.receive_data(say(TxRollbackOk()))
    channel.ack(1)
    assert_said(core, BasicAck(1), TxRollback(), BasicAck(1))


def test_what_was_committed_stays_settled(core: Connection) -> None:
    channel = transacting(core)
    channel.ack(1)
    channel.send(TxCommit(), "committed")
    channel.ack(2)  # of the next transaction, though the answer is still to come
    core.receive_data(say(TxCommitOk()))
    channel.send(TxRollback(), "rolled back")
    with pytest.raises(AlreadySettled):
        channel.ack(1)
    channel.ack(2)


def test_selecting_a_transaction_again_commits_nothing(core: Connection) -> None:
    channel = transacting(core)
    channel.ack(1)
    channel.send(TxSelect(), "again")
    core.receive_data(say(TxSelectOk()))
    channel.send(TxRollback(), "rolled back")
    channel.ack(1)
    assert_said(core, BasicAck(1), TxSelect(), TxRollback(), BasicAck(1))


# --------------------------------------------------------------------------- the end, by us


@pytest.mark.covers("T-CH-01")
def test_our_close_fails_what_waits_and_ends_with_its_answer(core: Connection) -> None:
    channel = open_channel(core, confirm=True)
    channel.send(BasicQos(), "qos")
    publish(channel, "one")
    channel.send(ChannelClose(200, "enough"), "closed")
    happened = core.take_events()
    assert_all_back(["qos", "one"], happened)
    errors = failures(happened)
    assert type(errors["qos"]) is ChannelClosed
    assert type(errors["one"]) is OutcomeUnknown
    assert channel.state is ChannelState.CLIENT_CLOSING
    happened = core.receive_data(say(ChannelCloseOk()))
    assert [type(event) for event in happened] == [events.Replied, events.ChannelEnded]
    error = one(events.ChannelEnded, happened).error
    assert (type(error), error.reply_code, error.reply_text, error.by_peer) == (
        ChannelClosed,
        200,
        "enough",
        False,
    )
    assert channel.error is error
    assert not core.channels


@pytest.mark.covers("T-PUB-07")
def test_a_publish_in_front_of_our_close_is_written_so_nobody_knows_its_outcome(core: Connection) -> None:
    channel = open_channel(core, confirm=True)
    publish(channel, "waits")
    channel.send(ChannelClose(), "closed")
    assert type(failures(core.take_events())["waits"]) is OutcomeUnknown
    assert [type(word.method) for word in said(core)] == [BasicPublish, ChannelClose]


@pytest.mark.covers("T-CH-03")
def test_after_our_close_everything_is_discarded_but_its_answer(core: Connection) -> None:
    channel = consuming(core)
    half = deliver(1, b"x" * 10)
    assert core.receive_data(half[:-11]) == []
    channel.send(ChannelClose(), "closed")
    core.outbox.take()
    late = half[-11:] + deliver(2) + say(BasicQosOk()) + say(BasicCancel("c")) + say(BasicAck(1))
    assert core.receive_data(late) == []
    assert not core.outbox
    happened = core.receive_data(say(ChannelCloseOk()))
    assert_all_back(["closed"], happened)


@pytest.mark.covers("T-CH-03")
def test_half_a_content_is_forgotten_with_our_close(core: Connection) -> None:
    channel = consuming(core)
    half = deliver(1, b"x" * 10)
    core.receive_data(half[:-18])  # method and header
    channel.send(ChannelClose(), "closed")
    happened = core.receive_data(say(ChannelCloseOk()))
    assert [type(event) for event in happened] == [events.Replied, events.ChannelEnded]


@pytest.mark.covers("T-CH-03")
@pytest.mark.parametrize("ours_first", [True, False])
def test_closes_may_cross(core: Connection, ours_first: bool) -> None:
    channel = open_channel(core)
    channel.send(ChannelClose(), "closed")
    core.outbox.take()
    answers = [closed_by_peer(), say(ChannelCloseOk())]
    happened = []
    for answer in answers if ours_first else reversed(answers):
        happened += core.receive_data(answer)
    assert_all_back(["closed"], happened)
    assert len(of_kind(events.ChannelEnded, happened)) == 1
    assert_said(core, ChannelCloseOk())
    assert core.is_open


@pytest.mark.covers("T-CH-03")
def test_a_channel_may_be_closed_before_it_is_open(core: Connection) -> None:
    channel = core.open_channel("opened")
    channel.send(ChannelClose(), "closed")
    happened = core.take_events() + core.receive_data(say(ChannelOpenOk()) + say(ChannelCloseOk()))
    assert_all_back(["opened", "closed"], happened)
    assert not core.channels


# --------------------------------------------------------------------------- the end, by the broker


@pytest.mark.covers("S45", "T-CH-08", "T-CH-11")
def test_the_call_to_blame_fails_with_the_reason_and_those_behind_it_were_not_processed(
    core: Connection, channel: ChannelCore
) -> None:
    for queue, token in (("there", "a"), ("gone", "b"), ("behind", "c")):
        channel.send(QueueDeclare(queue, passive=True), token)
    channel.send(BasicQos(), "d")
    core.outbox.take()
    happened = core.receive_data(say(QueueDeclareOk("there")) + closed_by_peer(404, NOT_FOUND, QueueDeclare))
    assert_all_back("abcd", happened)
    errors = failures(happened)
    culprit = errors["b"]
    assert isinstance(culprit, NotFound)
    assert (culprit.operation, culprit.queue, culprit.by_peer) == ("queue.declare", "gone", True)
    for token in "cd":
        assert type(errors[token]) is NotProcessed
        assert errors[token].__cause__ is channel.error
    assert one(events.ChannelEnded, happened).error is channel.error
    assert happened[-1] is one(events.ChannelEnded, happened)
    assert_said(core, ChannelCloseOk())
    assert not core.channels
    assert core.is_open


@pytest.mark.covers("S58")
def test_a_queue_without_a_name_is_the_last_one_declared_and_a_missing_one_is_a_404(
    core: Connection, channel: ChannelCore
) -> None:
    channel.send(QueueDeclare("", exclusive=True), "declare")
    channel.send(QueueBind("", "e", "k"), "bind")
    channel.send(BasicConsume("", "c"), "consume")
    channel.send(QueueBind("gone", "e", "k"), "missing")
    assert [getattr(word.method, "queue", None) for word in said(core)] == ["", "", "", "gone"]
    answers = say(QueueDeclareOk("amq.gen-1")) + say(QueueBindOk()) + say(BasicConsumeOk("c"))
    happened = core.receive_data(answers + closed_by_peer(404, NOT_FOUND, QueueBind))
    assert_all_back(["declare", "bind", "consume", "missing"], happened)
    assert type(failures(happened)["missing"]) is NotFound


@pytest.mark.covers("T-CH-08")
def test_a_call_of_the_same_name_behind_another_one_is_not_to_blame(
    core: Connection, channel: ChannelCore
) -> None:
    channel.send(BasicQos(), "qos")
    channel.send(QueueDeclare("x"), "declare")
    errors = failures(core.receive_data(closed_by_peer(404, NOT_FOUND, QueueDeclare)))
    assert {type(error) for error in errors.values()} == {NotProcessed}


@pytest.mark.covers("T-CH-08")
def test_a_consumer_to_blame_is_known_by_its_queue_or_is_the_first(core: Connection) -> None:
    for text, culprits in (
        (NOT_FOUND, ["b"]),
        ("NOT_FOUND - no queue 'other' in vhost '/'", []),
        ("no", ["a"]),
    ):
        channel = open_channel(core)
        for queue, token in (("there", "a"), ("gone", "b"), ("gone", "c")):
            channel.send(BasicConsume(queue, token), token)
        channel.send(BasicQos(), "qos")
        index = BasicConsume.index
        close = say(ChannelClose(404, text, index >> 16, index & 0xFFFF), channel.number)
        happened = core.receive_data(close)
        assert_all_back(["a", "b", "c", "qos"], happened)
        errors = failures(happened)
        assert [token for token, error in errors.items() if isinstance(error, NotFound)] == culprits
        assert sum(isinstance(error, NotProcessed) for error in errors.values()) == 4 - len(culprits)


@pytest.mark.covers("T-CH-07", "T-CH-08")
@pytest.mark.parametrize(
    ("queue", "named", "blamed"),
    [
        ("x", "gone", False),
        ("gone", "gone", True),
        ("a'b", "a'b", True),
        ("a\r\nb\x1b", "ab\x1b", True),
        ("", "amq.gen-1", True),
    ],
)
def test_a_call_that_the_text_does_not_name_is_not_to_blame(
    core: Connection, channel: ChannelCore, queue: str, named: str, blamed: bool
) -> None:
    """One that waits for no answer may have been before it."""
    channel.send(QueueDeclare(named, passive=True, no_wait=True))
    channel.send(QueueDeclare(queue), "declare")
    text = f"NOT_FOUND - no queue '{named}' in vhost '/'"
    errors = failures(core.receive_data(closed_by_peer(404, text, QueueDeclare)))
    assert type(errors["declare"]) is (NotFound if blamed else NotProcessed)


@pytest.mark.covers("T-CH-07", "T-CH-08")
def test_a_name_that_the_broker_took_as_it_was_is_known_again(core: Connection, channel: ChannelCore) -> None:
    """It drops the ends of lines where something is declared, deleted or bound, and nowhere else."""
    channel.send(QueuePurge("a\nb"), "purge")
    text = "NOT_FOUND - no queue 'a\nb' in vhost '/'"
    errors = failures(core.receive_data(closed_by_peer(404, text, QueuePurge)))
    assert type(errors["purge"]) is NotFound


@pytest.mark.covers("T-CH-07", "T-CH-08")
@pytest.mark.parametrize(("letters", "blamed"), [("", True), ("elsewhere", False)])
def test_the_default_exchange_is_known_by_the_name_that_the_broker_has_for_it(
    core: Connection, channel: ChannelCore, letters: str, blamed: bool
) -> None:
    channel.send(QueueDeclare("jobs", arguments={"x-dead-letter-exchange": letters}), "declare")
    text = "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'guest'"
    errors = failures(core.receive_data(closed_by_peer(403, text, QueueDeclare)))
    assert type(errors["declare"]) is (AccessRefused if blamed else NotProcessed)


@pytest.mark.covers("T-CON-07")
def test_a_close_over_no_call_at_all_blames_nobody(core: Connection, channel: ChannelCore) -> None:
    channel.send(BasicQos(), "qos")
    text = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out"
    happened = core.receive_data(closed_by_peer(406, text))
    assert type(failures(happened)["qos"]) is NotProcessed
    assert type(one(events.ChannelEnded, happened).error) is PreconditionFailed


@pytest.mark.covers("T-CH-11")
def test_a_reply_code_on_a_channel_has_the_channels_meaning(core: Connection, channel: ChannelCore) -> None:
    channel.send(QueueDeclare("x"), "declare")
    happened = core.receive_data(closed_by_peer(403, "ACCESS_REFUSED - no", QueueDeclare))
    assert type(failures(happened)["declare"]) is AccessRefused


def test_an_unknown_method_to_blame_is_nobody(core: Connection, channel: ChannelCore) -> None:
    channel.send(BasicQos(), "qos")
    happened = core.receive_data(say(ChannelClose(404, "", 999, 9)))
    error = one(events.ChannelEnded, happened).error
    assert (error.operation, error.class_id, error.method_id) == ("", 999, 9)


@pytest.mark.covers("T-PUB-07", "T-PUB-10")
def test_publishes_around_the_culprit_end_as_what_they_are(core: Connection) -> None:
    channel = open_channel(core, confirm=True)
    publish(channel, "before")
    publish(channel, "culprit", exchange="gone")
    publish(channel, "behind")
    core.outbox.take()
    publish(channel, "never written")
    happened = core.receive_data(closed_by_peer(404, NO_EXCHANGE, BasicPublish))
    assert_all_back(["before", "culprit", "behind", "never written"], happened)
    errors = failures(happened)
    assert {token: type(error) for token, error in errors.items()} == {
        "before": OutcomeUnknown,
        "culprit": NotFound,
        "behind": NotPublished,
        "never written": NotPublished,
    }
    assert len({id(error) for error in errors.values()} | {id(channel.error)}) == 5


@pytest.mark.covers("T-PUB-07")
def test_of_several_that_the_words_fit_nobody_is_blamed_and_only_what_is_behind_the_last_is_denied(
    core: Connection,
) -> None:
    channel = open_channel(core, confirm=True)
    for token, exchange in (("first", "gone"), ("between", ""), ("last", "gone"), ("behind", "")):
        publish(channel, token, exchange=exchange)
    core.outbox.take()
    errors = failures(core.receive_data(closed_by_peer(404, NO_EXCHANGE, BasicPublish)))
    assert {token: type(error) for token, error in errors.items()} == {
        "first": OutcomeUnknown,
        "between": OutcomeUnknown,
        "last": OutcomeUnknown,
        "behind": NotPublished,
    }


@pytest.mark.covers("T-PUB-07")
def test_where_nobody_can_tell_the_culprit_all_that_was_written_is_unknown(core: Connection) -> None:
    channel = open_channel(core, confirm=True)
    publish(channel, "one")
    publish(channel, "two")
    core.outbox.take()
    publish(channel, "three")
    errors = failures(core.receive_data(closed_by_peer(406, "PRECONDITION_FAILED - hm", BasicPublish)))
    assert {token: type(error) for token, error in errors.items()} == {
        "one": OutcomeUnknown,
        "two": OutcomeUnknown,
        "three": NotPublished,
    }
    assert all(error.__cause__ is channel.error for error in errors.values())


@pytest.mark.covers("T-CH-03")
def test_a_content_that_comes_behind_the_brokers_close_is_nobodys(core: Connection) -> None:
    consuming(core)
    happened = core.receive_data(closed_by_peer() + deliver(1))
    assert not of_kind(events.Delivered, happened)
    assert core.is_open


def test_channels_say_which_they_are_and_how(core: Connection, channel: ChannelCore) -> None:
    assert repr(channel) == "<channel 1, open>"
    channel.send(ChannelClose(), "closed")
    assert repr(channel) == "<channel 1, being closed by the client>"


# --------------------------------------------------------------------------- the server's role


def test_a_server_closes_a_channel_and_discards_what_the_client_sent_before_it_knew() -> None:
    core = server()
    channel = served_channel(core)
    channel.send(ChannelClose(404, NOT_FOUND, 50, 10), "closed")
    late = say(QueueDeclare("x")) + say(BasicPublish(), 1, b"body") + say(BasicAck(1))
    assert core.receive_data(late) == []
    happened = core.receive_data(say(ChannelCloseOk()))
    assert [type(event) for event in happened] == [events.Replied, events.ChannelEnded]
    assert served_channel(core) is not channel


def test_closes_may_cross_at_the_server_too() -> None:
    core = server()
    channel = served_channel(core)
    channel.send(ChannelClose(404, NOT_FOUND), "closed")
    core.outbox.take()
    assert core.receive_data(say(ChannelClose())) == []
    assert_said(core, ChannelCloseOk())
    assert_all_back(["closed"], core.receive_data(say(ChannelCloseOk())))


def test_a_servers_ack_settles_nothing_of_its_own() -> None:
    core = server()
    channel = served_channel(core)
    channel.send(BasicAck(5, True))
    channel.send(BasicNack(6))
    assert_said(core, BasicAck(5, True), BasicNack(6))


def test_a_server_may_select_nothing_but_is_held_to_the_form() -> None:
    channel = served_channel(server(tuning=Tuning(10, 4096, 0)))
    with pytest.raises(EncodeError, match=r"take \d+ bytes with the frame around them"):
        channel.send_content(BasicDeliver("c", 1), BasicProperties(headers={"a": "x" * 5000}), b"")
    with pytest.raises(LocalProtocolError):
        channel.send_content(BasicPublish(), NO_PROPERTIES, b"")


def test_a_message_that_is_cut_short_at_the_server_is_refused() -> None:
    core = server()
    served_channel(core)
    data = say(BasicPublish("e", "k"), 1, b"body")
    assert core.receive_data(data[:-12]) == []
    assert isinstance(ended_with(core.receive_data(say(BasicQos()))), RemoteProtocolError)


@pytest.mark.covers("T-PUB-01", "T-PUB-07")
def test_nobody_is_blamed_for_a_publish_from_before_the_mode() -> None:
    core = client()
    channel = open_channel(core)
    publish(channel, "plain", exchange="gone")
    channel.send(ConfirmSelect(), "select")
    publish(channel, "numbered", exchange="gone")
    core.outbox.take()
    text = "NOT_FOUND - no exchange 'gone' in vhost '/'"
    errors = failures(core.receive_data(say(ChannelClose(404, text, 60, 40), channel.number)))
    assert isinstance(errors["numbered"], OutcomeUnknown)
