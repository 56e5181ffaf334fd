import pytest

from tests.protocol.pair import (
    assert_said,
    client,
    consuming,
    open_channel,
    said,
    say,
    served_channel,
    server,
)
from txamqpx.errors import ConsumerTagInUse, LocalProtocolError, UnknownDelivery
from txamqpx.protocol.states import Mode
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method


@pytest.mark.covers("T-CH-07", "T-CH-10", "T-CH-11")
@pytest.mark.parametrize(
    "method",
    [
        amqp.BasicQos(prefetch_size=1),
        amqp.ChannelFlow(False),
        amqp.BasicRecover(False),
        amqp.BasicRecoverAsync(False),
        amqp.BasicConsume("q", "c", no_wait=True),
        amqp.BasicConsume("q", ""),
        amqp.BasicCancel("c", no_wait=True),
    ],
)
def test_what_would_end_the_connection_or_never_end_itself_is_refused(method: Method) -> None:
    core = client()
    channel = open_channel(core)
    with pytest.raises(LocalProtocolError, match=method.name) as refused:
        channel.send(method, "token")
    assert refused.value.operation in (method.name, "")
    assert not channel.consumers
    assert not channel.waiting
    assert said(core) == []


@pytest.mark.parametrize("method", [amqp.BasicQos(0, 10), amqp.ChannelFlow(True), amqp.BasicRecover(True)])
def test_what_brokers_do_implement_is_sent(method: Method) -> None:
    core = client()
    open_channel(core).send(method, "token")
    assert_said(core, method)


@pytest.mark.covers("T-CON-02")
def test_a_tag_is_taken_until_its_cancel_was_answered() -> None:
    core = client()
    channel = consuming(core)
    with pytest.raises(ConsumerTagInUse):
        channel.send(amqp.BasicConsume("q", "c"), "again")
    channel.send(amqp.BasicCancel("c"), "first")
    channel.send(amqp.BasicCancel("c"), "second")
    core.receive_data(say(amqp.BasicCancelOk("c"), channel.number))
    with pytest.raises(ConsumerTagInUse):
        channel.send(amqp.BasicConsume("q", "c"), "too soon")
    core.receive_data(say(amqp.BasicCancelOk("c"), channel.number))
    core.outbox.take()
    channel.send(amqp.BasicConsume("q", "c"), "at last")
    assert_said(core, amqp.BasicConsume("q", "c"))


def test_a_consumer_is_not_cancelled_before_it_has_begun() -> None:
    core = client()
    channel = open_channel(core)
    channel.send(amqp.BasicConsume("q", "c"), "consuming")
    with pytest.raises(LocalProtocolError, match=r"before basic\.consume is answered"):
        channel.send(amqp.BasicCancel("c"), "cancelling")


@pytest.mark.covers("T-PUB-01", "T-PUB-12")
def test_modes_begin_when_they_are_asked_for() -> None:
    core = client()
    confirming, transacting = open_channel(core), open_channel(core)
    confirming.send(amqp.ConfirmSelect(), "select")
    assert confirming.mode is Mode.CONFIRM
    assert confirming.confirms is not None
    ledger = confirming.confirms
    confirming.send(amqp.ConfirmSelect(), "again")
    assert confirming.confirms is ledger
    transacting.send(amqp.TxSelect(), "select")
    assert transacting.mode is Mode.TRANSACTION
    transacting.send(amqp.TxSelect(), "again")
    assert transacting.mode is Mode.TRANSACTION


@pytest.mark.covers("T-ACK-02")
def test_a_tag_that_was_never_given_out_is_not_settled() -> None:
    core = client()
    channel = consuming(core)
    for method in (amqp.BasicAck(7), amqp.BasicNack(7), amqp.BasicReject(7)):
        with pytest.raises(UnknownDelivery):
            channel.send(method)
    assert said(core) == []


def test_a_server_confirms_without_settling_anything_of_its_own() -> None:
    core = server()
    channel = served_channel(core)
    channel.send(amqp.BasicAck(7))
    assert_said(core, amqp.BasicAck(7))
