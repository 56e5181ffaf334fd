from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from zope.interface import implementer

from tests.logged import LoggedErrors
from tests.talk import opened
from txamqpx.client import LEAST, Client, connect
from txamqpx.errors import (
    ConnectionClosed,
    ConnectionLost,
    ConnectionRefused,
    HandshakeTimeout,
    InvalidParameter,
    NoBrokerReached,
    NotFound,
    URLError,
)
from txamqpx.message import Confirmed, Delivery
from txamqpx.ordering import Footprint
from txamqpx.params import ConnectionParameters
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicGet,
    BasicGetEmpty,
    BasicGetOk,
    BasicNack,
    BasicProperties,
    BasicPublish,
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ChannelOpenOk,
    ConfirmSelect,
    ConfirmSelectOk,
    ConnectionClose,
    QueueDeclare,
    QueueDeclareOk,
    QueuePurge,
)
from txamqpx.testing import ScriptedPeer, Watched, failure_of, is_pending, success_of


@pytest.fixture
def peer() -> ScriptedPeer:
    return opened()


@pytest.fixture
def client(peer: ScriptedPeer) -> Client:
    return Client(peer.protocol)


def accept(peer: ScriptedPeer, *, confirm: bool = False) -> int:
    number = peer.expect(ChannelOpen).channel
    peer.send(number, ChannelOpenOk())
    if confirm:
        peer.expect(ConfirmSelect, number)
        peer.send(number, ConfirmSelectOk())
    return number


def test_a_client_says_what_it_is(peer: ScriptedPeer, client: Client) -> None:
    assert repr(client) == f"<Client of {peer.protocol!r}>"
    assert client.protocol is peer.protocol
    assert client.server.product == "a script"
    opened_and_lost = [client.is_open]
    closed = client.when_closed()
    peer.hang_up()
    opened_and_lost.append(client.is_open)
    assert opened_and_lost == [True, False]
    assert isinstance(success_of(closed), ConnectionLost)


@pytest.mark.covers("S35")
@pytest.mark.parametrize("can", [True, False])
@pytest.mark.parametrize("wanted", [None, True, False])
def test_confirms_are_as_the_broker_can_unless_somebody_knows_better(
    peer: ScriptedPeer, can: bool, wanted: bool | None
) -> None:
    peer.protocol.core.server_properties = {"capabilities": {"publisher_confirms": can}}
    client = Client(peer.protocol, confirms=wanted)
    confirms = can if wanted is None else wanted
    assert client.confirms is confirms
    assert client.publisher().confirm is confirms
    assert client.publisher(confirm=True).confirm


def test_a_raw_channel_is_to_be_had(peer: ScriptedPeer, client: Client) -> None:
    channel = client.channel()
    number = accept(peer)
    assert success_of(channel).number == number


# --------------------------------------------------------------------------- publishing


@pytest.mark.covers("S11")
def test_what_is_published_has_the_properties_that_were_given(peer: ScriptedPeer) -> None:
    client = Client(peer.protocol, confirms=True)
    plain = client.publish(b"a", routing_key="q")
    number = accept(peer, confirm=True)
    sent = peer.expect(BasicPublish("", "q", True), number)
    assert (sent.body, sent.properties) == (b"a", BasicProperties())
    peer.send(number, BasicAck(1, False))
    assert isinstance(success_of(plain), Confirmed)
    client.publish(b"b", exchange="x", properties=BasicProperties(type="t"), mandatory=False, priority=1)
    sent = peer.expect(BasicPublish("x", "", False), number)  # by the same publisher
    assert sent.properties == BasicProperties(type="t", priority=1)
    assert len(client.publishers) == 1


def test_a_publisher_of_ones_own_is_persistent(peer: ScriptedPeer) -> None:
    client = Client(peer.protocol, confirms=True)
    publisher = client.publisher(max_outstanding=5)
    assert client.publishers == [publisher]
    publisher.publish(b"a")
    accept(peer, confirm=True)
    assert peer.expect(BasicPublish).properties == BasicProperties(delivery_mode=2)


def test_a_publisher_that_was_closed_is_forgotten(peer: ScriptedPeer, client: Client) -> None:
    kept, closed = client.publisher(), client.publisher()
    closed.close()
    assert client.publishers == [kept]
    ended = client.close()
    peer.wire.pump()
    assert success_of(ended) is None
    assert client.publishers == []


@pytest.mark.covers("S03")
def test_a_publish_comes_after_what_was_called_before_and_before_what_is_called_after(
    peer: ScriptedPeer,
) -> None:
    client = Client(peer.protocol, confirms=True)
    client.queue_declare("q")
    client.publish(b"", routing_key="q")
    client.queue_purge("q")
    client.queue_purge("p")  # which nothing was published to
    number = accept(peer)
    peer.expect(QueueDeclare, number)
    peer.expect(QueuePurge("p"), accept(peer))
    peer.expect_nothing()
    peer.send(number, QueueDeclareOk("q", 0, 0))
    publishing = accept(peer, confirm=True)
    peer.expect(BasicPublish, publishing)
    peer.expect_nothing()
    peer.send(publishing, BasicAck(1, False))
    peer.expect(QueuePurge("q"))


def test_what_is_no_target_is_refused_by_its_kind() -> None:
    with pytest.raises(TypeError, match="NoneType to a broker: give a URL"):
        connect(cast(Any, None))


def test_a_publisher_that_is_closed_is_let_go(client: Client) -> None:
    publisher = client.publisher()
    assert client.publishers == [publisher]
    success_of(publisher.close())
    assert client.publishers == []


def test_a_flush_waits_for_all_publishers(client: Client) -> None:
    assert success_of(client.flush()) is None
    waits: list[Deferred[None]] = [Deferred(), Deferred()]
    stubs: list[Any] = [Stub(flushed=wait) for wait in waits]
    client.publishers += stubs
    flushed = client.flush()
    waits[0].callback(None)
    assert is_pending(flushed)
    waits[1].callback(None)
    assert success_of(flushed) is None


def test_who_gives_up_a_flush_is_not_told_that_all_is_settled(client: Client) -> None:
    wait: Deferred[None] = Deferred()
    stub: Any = Stub(flushed=wait)
    client.publishers.append(stub)
    given_up, flushed = client.flush(), client.flush()
    given_up.cancel()
    failure_of(given_up, CancelledError)
    assert is_pending(flushed)
    wait.callback(None)
    assert success_of(flushed) is None


class Stub:
    """A publisher, or what a client has adopted; notes what it is told."""

    def __init__(
        self,
        said: list[Any] | None = None,
        name: str = "",
        *,
        flushed: Deferred[None] | None = None,
        affected: Deferred[None] | None = None,
        ended: Deferred[None] | None = None,
    ) -> None:
        self.said = [] if said is None else said
        self.name = name
        self.flushed = flushed
        self.affected = affected
        self.ended = ended

    def flush(self) -> Deferred[None] | None:
        return self.flushed

    def affected_by(self, footprint: Footprint) -> Deferred[None] | None:
        return self.affected

    def drain(self, timeout: float) -> Deferred[None] | None:
        self.said.append((self.name, timeout))
        return self.ended

    close = drain


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_each_publisher_that_is_affected_is_waited_for(
    peer: ScriptedPeer, client: Client, order: tuple[int, int]
) -> None:
    waits: list[Deferred[None]] = [Deferred(), Deferred()]
    stubs: list[Any] = [Stub(affected=waits[0]), Stub(), Stub(affected=waits[1])]
    client.publishers += stubs
    client.queue_purge("q")
    for index in order:
        peer.expect_nothing()
        waits[index].callback(None)
    peer.expect(QueuePurge("q"), accept(peer))


# --------------------------------------------------------------------------- taking messages


@pytest.mark.covers("S04", "T-CH-09")
def test_gets_are_answered_in_their_order(peer: ScriptedPeer, client: Client) -> None:
    got = [client.get("q") for _ in range(2)]
    empty = client.get("q", no_ack=True)
    number = accept(peer)
    for no_ack in (False, False, True):
        peer.expect(BasicGet("q", no_ack), number)
    for tag in (1, 2):
        peer.send(number, BasicGetOk(tag, False, "", "q", 0), str(tag).encode())
    peer.send(number, BasicGetEmpty())
    deliveries = [success_of(one) for one in got]
    assert [delivery and delivery.body for delivery in deliveries] == [b"1", b"2"]
    assert success_of(empty) is None


def test_a_missing_queue_harms_nobody_who_holds_messages_of_another(
    peer: ScriptedPeer, client: Client
) -> None:
    held, missing = client.get("q"), client.get("missing")
    one, other = accept_get(peer), accept_get(peer)
    peer.send(one, BasicGetOk(1, False, "", "q", 0), b"")
    peer.send(other, ChannelClose(404, "no queue 'missing'", 60, 70))
    failure_of(missing, NotFound)
    peer.expect(ChannelCloseOk, other)
    delivery = success_of(held)
    assert delivery is not None
    assert not delivery.stale
    client.queue_declare("a")
    peer.expect(QueueDeclare, accept(peer))  # which may fail and harm nobody, too
    delivery.ack()
    peer.expect(BasicAck(1, False), one)


def accept_get(peer: ScriptedPeer) -> int:
    number = accept(peer)
    peer.expect(BasicGet, number)
    return number


@pytest.mark.covers("T-CH-06")
def test_a_message_for_nobody_is_given_back(peer: ScriptedPeer, client: Client) -> None:
    given_up = [client.get("q"), client.get("q"), client.get("q", no_ack=True)]
    number = accept(peer)
    for get in given_up:
        peer.expect(BasicGet, number)
        get.cancel()
        failure_of(get, CancelledError)
    peer.send(number, BasicGetEmpty())
    peer.expect_nothing()
    peer.send(number, BasicGetOk(1, False, "", "q", 0), b"")
    peer.expect(BasicNack(1, False, True), number)
    peer.send(number, BasicGetOk(2, False, "", "q", 0), b"")
    peer.expect_nothing()  # the broker has forgotten it


# --------------------------------------------------------------------------- the end


@pytest.mark.covers("T-CLS-01")
def test_closing_goes_in_order_and_nobody_is_asked_before_his_turn(
    peer: ScriptedPeer, client: Client
) -> None:
    said: list[Any] = []
    consumed: Deferred[None] = Deferred()
    published: Deferred[None] = Deferred()
    client.adopt(Stub(said, "gone"))  # type: ignore[arg-type]
    for name in ("consumer", "other"):
        client.adopt(Stub(said, name, ended=consumed if name == "consumer" else None))  # type: ignore[arg-type]
    client.release(client._adopted[0])
    client.publishers.append(Stub(said, "publisher", ended=published))  # type: ignore[arg-type]
    declared = client.queue_declare("q")
    closing = [client.close(20.0), client.close()]
    assert not client.is_open
    assert said == [("consumer", 20.0), ("other", 20.0)]
    peer.advance(5.0)
    consumed.callback(None)
    assert said[2:] == [("publisher", 15.0)]
    number = accept(peer)
    peer.expect(QueueDeclare, number)
    published.callback(None)
    peer.expect_nothing()
    peer.send(number, QueueDeclareOk("q", 0, 0))
    assert success_of(declared).queue == "q"
    peer.expect(ConnectionClose)
    assert [success_of(one) for one in (*closing, client.close())] == [None] * 3
    assert peer.gone


def test_who_is_late_is_told_that_the_client_is_being_closed(client: Client) -> None:
    client.release(Stub())  # type: ignore[arg-type]  # a stranger
    client.close()
    with pytest.raises(ConnectionClosed, match="is being closed"):
        client.adopt(Stub())  # type: ignore[arg-type]


@pytest.mark.covers("T-CLS-01")
def test_what_does_not_end_in_time_is_named_and_ends_with_the_connection(peer: ScriptedPeer) -> None:
    client = Client(peer.protocol)
    said: list[Any] = []
    stuck: Deferred[None] = Deferred()
    client.adopt(Stub(said, "stuck", ended=stuck))  # type: ignore[arg-type]
    client.publishers.append(Stub(said, "publisher", ended=Deferred()))  # type: ignore[arg-type]
    declared = Watched(client.queue_declare("q"))
    with capturedLogs() as events:
        closed = client.close(5.0)
        peer.advance(5.0 + 2 * LEAST - 0.1)
        assert is_pending(closed)
        peer.advance(0.2)
    assert success_of(closed) is None
    declared.error(ConnectionClosed)
    assert said == [("stuck", 5.0), ("publisher", LEAST)]
    warnings = [event["what"] for event in events if event["log_level"] is LogLevel.warn]
    assert warnings == ["consumers", "publishers", "calls"]
    stuck.callback(None)  # it was not cancelled


def test_closing_at_once_waits_for_nothing(peer: ScriptedPeer, client: Client) -> None:
    client.adopt(Stub(ended=Deferred()))  # type: ignore[arg-type]
    closed = client.close(0)
    peer.advance(0)
    assert success_of(closed) is None


@pytest.mark.parametrize("timeout", [-1, float("inf"), float("nan"), None])
def test_a_time_that_is_none_closes_nothing(peer: ScriptedPeer, client: Client, timeout: Any) -> None:
    with pytest.raises((InvalidParameter, TypeError)):
        client.close(timeout)
    assert client.is_open
    closed = client.close()
    peer.wire.pump()
    assert success_of(closed) is None


def test_what_fails_while_closing_is_logged_and_holds_nobody_up(
    peer: ScriptedPeer, client: Client, logged_errors: LoggedErrors
) -> None:
    client.adopt(Stub(ended=fail(NotFound("gone"))))  # type: ignore[arg-type]
    closed = client.close()
    peer.wire.pump()
    assert success_of(closed) is None
    logged_errors.flush(NotFound)


@pytest.mark.covers("T-CLS-07")
def test_closing_a_client_whose_connection_is_lost_is_harmless(peer: ScriptedPeer, client: Client) -> None:
    peer.hang_up()
    assert success_of(client.close()) is None


def test_a_client_is_closed_at_the_end_of_its_block(peer: ScriptedPeer, client: Client) -> None:
    async def block() -> Client:
        async with client as same:
            return same

    ended = Deferred.fromCoroutine(block())
    peer.wire.pump()
    assert success_of(ended) is client
    assert peer.gone


# --------------------------------------------------------------------------- connecting


@implementer(IStreamClientEndpoint)
class Place:
    """Leads nowhere until the test says where; notes when it is asked."""

    def __init__(self, log: list[Place], answer: Deferred[Any] | None = None) -> None:
        self.answer: Deferred[Any] = Deferred() if answer is None else answer
        self._log = log

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        self._log.append(self)
        self.factory = factory
        return self.answer

    def lead_to_a_broker(self, clock: Clock) -> ScriptedPeer:
        protocol: Any = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5672))
        peer = ScriptedPeer(protocol, clock)
        self.answer.callback(protocol)
        peer.open()
        return peer


@pytest.fixture
def asked() -> list[Place]:
    return []


def test_connecting_leads_to_a_client(asked: list[Place]) -> None:
    clock = Clock()
    place = Place(asked)
    parameters = ConnectionParameters(virtual_host="mine")
    connecting = connect(place, reactor=clock, parameters=parameters, confirms=True, allow_deprecated=True)
    peer = place.lead_to_a_broker(clock)
    client = success_of(connecting)
    assert client.protocol is peer.protocol
    assert client.protocol.parameters is parameters
    assert (client.confirms, client.allow_deprecated) == (True, True)


def test_several_brokers_are_tried_in_their_order_until_one_answers(asked: list[Place]) -> None:
    clock = Clock()
    refusing = Place(asked, fail(ConnectionRefusedError()))
    answering, spare = Place(asked), Place(asked)
    connecting = connect(iter([refusing, answering, spare]), reactor=clock)
    assert asked == [refusing, answering]
    answering.lead_to_a_broker(clock)
    assert isinstance(success_of(connecting), Client)
    assert asked == [refusing, answering]


def test_if_no_broker_answers_the_error_of_each_is_told(asked: list[Place]) -> None:
    clock = Clock()
    places = [Place(asked, fail(ConnectionRefusedError())), Place(asked)]
    connecting = Watched(connect(places, reactor=clock))
    clock.advance(ConnectionParameters().connection_timeout)
    error = connecting.error(NoBrokerReached)
    assert [type(one) for one in error.errors] == [ConnectionRefused, HandshakeTimeout]
    assert "nothing listens on that port; the connection was not open" in str(error)


def test_the_error_of_a_single_broker_is_its_own(asked: list[Place]) -> None:
    one = [Place(asked, fail(ConnectionRefusedError()))]
    failure_of(connect(one, reactor=Clock()), ConnectionRefused)
    failure_of(connect(Place(asked, fail(ConnectionRefusedError())), reactor=Clock()), ConnectionRefused)


def test_a_target_that_cannot_be_understood_is_a_mistake(asked: list[Place]) -> None:
    with pytest.raises(URLError):
        connect("http://host", reactor=Clock())
    with pytest.raises(InvalidParameter, match="target: there is none"):
        connect([], reactor=Clock())
    spare = Place(asked)
    failure_of(connect(["http://host", spare], reactor=Clock()), URLError)
    assert asked == []


def test_connecting_that_is_cancelled_tries_no_more(asked: list[Place]) -> None:
    connecting = connect([Place(asked), Place(asked)], reactor=Clock())
    connecting.cancel()
    failure_of(connecting, CancelledError)
    assert len(asked) == 1
    assert asked[0].answer.called


def test_a_delivery_is_what_a_get_gives(peer: ScriptedPeer, client: Client) -> None:
    got = client.get("q")
    number = accept_get(peer)
    peer.send(number, BasicGetOk(1, True, "x", "k", 7), b"body")
    delivery = success_of(got)
    assert isinstance(delivery, Delivery)
    assert (delivery.message_count, delivery.redelivered, delivery.routing_key) == (7, True, "k")
