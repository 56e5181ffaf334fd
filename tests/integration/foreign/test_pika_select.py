"""pika does not wait for the broker: everything is a callback, and calls are on their way together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
import pytest
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from tests.brokers_plugin import Vhost
from tests.integration.support import PATIENCE
from tests.interop import FRAME_MAX

LARGE = b"\n".join(b"%d" % number for number in range(2_000_000))


class Stage:
    """Runs a connection until it is closed, and holds the channel on which a story is played.

    Args:
        url: Where to.
        story: What happens on the channel when it is open.

    Attributes:
        ended: Why the connection ended, or was not opened.
        told: What the story wants to be asked for afterwards.
    """

    def __init__(self, url: str, story: Callable[[Stage], object]) -> None:
        self.told: list[Any] = []
        self.ended: BaseException | None = None
        self.channel: Channel
        self._story = story
        self._failure: Exception | None = None
        self.connection = pika.SelectConnection(
            pika.URLParameters(url), self._opened, self._closed, self._closed
        )
        self.connection.ioloop.call_later(PATIENCE, self._give_up)
        self.connection.ioloop.start()
        self.connection.ioloop.close()
        if self._failure is not None:
            raise self._failure

    def end(self, *told: object) -> None:
        """End the story."""
        self.connection.close()

    def note(self, *told: Any) -> None:
        """Note what a callback is told, and end the story."""
        self.told.append(told)
        self.end()

    def _opened(self, connection: object) -> None:
        self.connection.channel(on_open_callback=self._begin)

    def _begin(self, channel: Channel) -> None:
        self.channel = channel
        self._story(self)

    def _closed(self, connection: object, reason: BaseException) -> None:
        self.ended = reason
        self.connection.ioloop.stop()

    def _give_up(self) -> None:
        self._failure = TimeoutError(f"the story did not end; it told {self.told}")
        self.connection.ioloop.stop()


def test_a_connection_opens_and_closes(vhost: Vhost) -> None:
    stage = Stage(vhost.url, Stage.end)
    assert (stage.ended.args[:2] if stage.ended else None) == (200, "Normal shutdown")
    assert stage.connection.params.frame_max == FRAME_MAX


def test_a_virtual_host_that_is_missing(vhost: Vhost) -> None:
    stage = Stage(vhost.node.url("missing"), Stage.end)
    assert isinstance(stage.ended, BaseException)
    assert "NOT_ALLOWED" in repr(stage.ended)


def test_calls_with_and_without_an_answer_are_on_their_way_together(vhost: Vhost) -> None:
    def story(stage: Stage) -> None:
        declare = stage.channel.queue_declare
        declare("first", auto_delete=True, callback=stage.told.append)
        declare("second", auto_delete=True, arguments={"x-expires": 60_000})
        declare("third", auto_delete=True, callback=stage.told.append)
        declare("second", passive=True, callback=stage.note)

    told = Stage(vhost.url, story).told
    assert [frame.method.queue for frame in (*told[:2], told[2][0])] == ["first", "third", "second"]


@pytest.mark.parametrize("what", ["queue", "exchange"])
def test_what_is_declared_otherwise_costs_the_channel(vhost: Vhost, what: str) -> None:
    def story(stage: Stage) -> None:
        stage.channel.add_on_close_callback(stage.note)
        if what == "queue":
            stage.channel.queue_declare("q", exclusive=True)
            stage.channel.queue_declare("q", exclusive=True, auto_delete=True)
        else:
            stage.channel.exchange_declare("x", "direct", auto_delete=True)
            stage.channel.exchange_declare("x", "topic", auto_delete=True)

    ((_, reason),) = Stage(vhost.url, story).told
    assert isinstance(reason, ChannelClosedByBroker)
    assert reason.reply_code == 406


@pytest.mark.parametrize("call", ["tx_commit", "tx_rollback"])
def test_without_a_transaction_there_is_nothing_to_end(vhost: Vhost, call: str) -> None:
    def story(stage: Stage) -> None:
        stage.channel.add_on_close_callback(stage.note)
        getattr(stage.channel, call)()

    ((_, reason),) = Stage(vhost.url, story).told
    assert reason.reply_code == 406


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("how", ["get", "consume"])
def test_a_message_goes_round(vhost: Vhost, how: str, body: bytes) -> None:
    def story(stage: Stage) -> None:
        channel = stage.channel
        channel.exchange_declare("x", "topic", auto_delete=True)
        channel.queue_declare("q", auto_delete=True)
        channel.queue_bind("q", "x", "#", callback=lambda _: round_trip(stage))

    def round_trip(stage: Stage) -> None:
        stage.channel.basic_publish("x", "a.key", body)
        if how == "consume":
            stage.channel.basic_consume("q", take)
        else:
            stage.channel.queue_declare("q", passive=True, callback=lambda _: get(stage))

    def get(stage: Stage) -> None:
        stage.channel.basic_get("q", take)

    def take(channel: Channel, method: Any, properties: Any, found: bytes) -> None:
        seen.append((method.exchange, method.routing_key, found))
        channel.basic_ack(method.delivery_tag)
        channel.connection.close()

    seen: list[tuple[str, str, bytes]] = []
    Stage(vhost.url, story)
    assert seen == [("x", "a.key", body)]


def test_confirms_are_counted(vhost: Vhost) -> None:
    def story(stage: Stage) -> None:
        def confirmed(frame: Any) -> None:
            stage.told.append(frame.method)
            if frame.method.delivery_tag == 50:
                stage.end()

        def publish(frame: object) -> None:
            for _ in range(50):
                stage.channel.basic_publish("", "q", b"")

        stage.channel.queue_declare("q", exclusive=True)
        stage.channel.confirm_delivery(confirmed, callback=publish)

    told = Stage(vhost.url, story).told
    assert {type(method) for method in told} == {pika.spec.Basic.Ack}
    done = 0
    for method in told:
        assert method.multiple or method.delivery_tag == done + 1
        done = method.delivery_tag
    assert done == 50


def test_a_consumer_is_cancelled_amid_its_deliveries(vhost: Vhost) -> None:
    def story(stage: Stage) -> None:
        channel = stage.channel

        def cancel(*told: Any) -> None:
            channel.basic_cancel(tag, callback=lambda _: channel.queue_delete("q", callback=stage.note))

        channel.queue_declare("q")
        for number in range(100):
            channel.basic_publish("", "q", b"%d" % number)
        tag = channel.basic_consume("q", cancel, auto_ack=True)

    ((deleted,),) = Stage(vhost.url, story).told
    assert isinstance(deleted.method, pika.spec.Queue.DeleteOk)


def test_the_broker_closes_the_connection(vhost: Vhost) -> None:
    stage = Stage(vhost.url, lambda _: vhost.node.close_all_connections("enough"))
    assert isinstance(stage.ended, ConnectionClosedByBroker)
    assert stage.ended.reply_code == 320
    assert "enough" in stage.ended.reply_text
