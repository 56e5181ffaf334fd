from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, inlineCallbacks, succeed

from tests.consuming.log import listening
from tests.consuming.stage import Stage
from tests.logged import LoggedErrors
from txamqpx.consuming.settlement import Drop, Reject, Requeue, RetryLater, StopConsuming
from txamqpx.consuming.settlement import Outcome as Became
from txamqpx.errors import AlreadySettled
from txamqpx.message import Delivery, Settlement
from txamqpx.testing import Watched, is_pending, success_of


class Work:
    """A handler whose calls end when the test says so.

    Attributes:
        begun: The bodies that it was called with, in order.
        ends: What each call waits for, by body.
    """

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.deliveries: list[Delivery] = []
        self.ends: dict[bytes, Deferred[Any]] = {}

    def __call__(self, delivery: Delivery) -> Deferred[Any]:
        self.begun.append(delivery.body)
        self.deliveries.append(delivery)
        self.ends[delivery.body] = Deferred()
        return self.ends[delivery.body]


@pytest.fixture
def stage() -> Stage:
    return Stage()


# --------------------------------------------------------------------------- what a handler may be


def plain(delivery: Delivery) -> None:
    pass


def chatty(delivery: Delivery) -> str:
    return "requeue"  # whatever it returns, it has returned


async def coroutine(delivery: Delivery) -> int:
    return await succeed(2)


def deferred(delivery: Delivery) -> Deferred[bool]:
    return succeed(False)


@inlineCallbacks
def generator(delivery: Delivery) -> Generator[Deferred[int], int, int]:
    return (yield succeed(1))


@pytest.mark.covers("L08", "L09", "S90")
@pytest.mark.parametrize("options", [{}, {"order_by": lambda delivery: delivery.body}])
@pytest.mark.parametrize("handler", [plain, chatty, coroutine, deferred, generator])
def test_whatever_a_handler_is_and_returns_its_end_acks(stage: Stage, handler: Any, options: Any) -> None:
    stage.consume(handler, **options)
    stage.deliver(b"1", b"2", b"3")
    assert stage.take_settled() == [("ack", -3)]


def raising(error: BaseException) -> list[Callable[[Delivery], object]]:
    def now(delivery: Delivery) -> None:
        raise error

    async def later(delivery: Delivery) -> None:
        raise error

    return [now, later, lambda delivery: fail(error)]


@pytest.mark.covers("S90", "T-ACK-06")
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize(
    ("error", "said"),
    [(Requeue(), "nack requeue"), (Reject(), "reject"), (Drop(), "ack")],
)
def test_what_a_handler_raises_says_what_becomes_of_its_message(
    stage: Stage, error: Exception, said: str, which: int
) -> None:
    stage.consume(raising(error)[which])
    stage.deliver(b"1")
    assert stage.take_settled() == [(said, 1)]


@pytest.mark.covers("T-CON-13", "T-ACK-07", "S90", "F10")
@pytest.mark.parametrize("which", range(3))
def test_an_exception_ends_no_consumer_and_has_its_message_tried_once_more(
    stage: Stage, which: int, logged_errors: LoggedErrors
) -> None:
    consumer = stage.consume(raising(ValueError("bad"))[which])
    stage.deliver(b"1")
    assert stage.take_settled() == [("reject requeue", 1)]
    stage.deliver(b"1", redelivered=True)
    assert stage.take_settled() == [("reject", 2)]
    assert consumer.is_active
    assert len(logged_errors.flush(ValueError)) == 2


def test_a_handler_may_settle_by_itself(stage: Stage, logged_errors: LoggedErrors) -> None:
    def handle(delivery: Delivery) -> None:
        delivery.reject(requeue=False)
        if delivery.body == b"and raise":
            raise ValueError("after that")
        if delivery.body == b"and retry":
            raise RetryLater(0)

    stage.consume(handle)
    stage.deliver(b"quietly", b"and raise", b"and retry")
    stage.advance(10)
    assert stage.take_settled() == [("reject", 1), ("reject", 2), ("reject", 3)]
    assert len(logged_errors.flush(ValueError)) == 1


@pytest.mark.covers("S17", "T-ACK-02", "T-ACK-08")
def test_a_second_settling_is_the_handlers_mistake_and_closes_nothing(
    stage: Stage, logged_errors: LoggedErrors
) -> None:
    def handle(delivery: Delivery) -> None:
        delivery.ack()
        delivery.ack()

    consumer = stage.consume(handle, debug=True)
    stage.deliver(b"1")
    assert stage.take_settled() == [("ack", 1)]
    assert consumer.is_active
    (failure,) = logged_errors.flush(AlreadySettled)
    (note,) = getattr(failure.value, "__notes__", [])
    assert note.startswith("It was settled here:")
    assert "in handle" in note


def test_without_debug_nobody_remembers_where(stage: Stage, logged_errors: LoggedErrors) -> None:
    got: list[Delivery] = []
    stage.consume(got.append)
    stage.deliver(b"1")
    with pytest.raises(AlreadySettled) as caught:
        got[0].ack()
    assert not hasattr(caught.value, "__notes__")


# --------------------------------------------------------------------------- policies


@pytest.mark.covers("T-ACK-07")
def test_a_policy_that_fails_itself_leaves_nothing_unsettled(
    stage: Stage, logged_errors: LoggedErrors
) -> None:
    def policy(failure: Any, delivery: Delivery) -> Became:
        raise KeyError("policy")

    stage.consume(raising(ValueError())[0], on_error=policy)
    stage.deliver(b"1")
    assert stage.take_settled() == [("reject requeue", 1)]
    assert len(logged_errors.flush(KeyError)) == 1
    assert len(logged_errors.flush(ValueError)) == 1


def test_a_policy_may_tell_by_the_exception(stage: Stage, logged_errors: LoggedErrors) -> None:
    def policy(failure: Any, delivery: Delivery) -> Any:
        return Drop if failure.check(KeyError) else Became.RELEASED

    async def handle(delivery: Delivery) -> None:
        raise KeyError if delivery.body == b"key" else ValueError

    stage.consume(handle, on_error=policy)
    stage.deliver(b"key", b"value")
    assert stage.take_settled() == [("ack", 1), ("nack requeue", 2)]
    assert len(logged_errors.flush(KeyError, ValueError)) == 2


# --------------------------------------------------------------------------- trying again


@pytest.mark.covers("S90", "L09")
def test_a_message_that_is_to_be_tried_again_stays_here_and_its_end_is_certain(stage: Stage) -> None:
    times: list[float] = []

    def handle(delivery: Delivery) -> None:
        times.append(stage.peer.clock.seconds())
        raise RetryLater

    stage.consume(handle, attempts=4)
    stage.deliver(b"1", b"2")
    stage.advance(6.5)
    assert times == [0, 1, 3]  # the second message keeps its place behind the first
    assert stage.take_settled() == []
    stage.advance(1)
    assert times[3:] == [7, 7]
    assert stage.take_settled() == [("reject", 1)]


def test_what_succeeds_at_last_is_acked(stage: Stage) -> None:
    calls: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        calls.append(delivery.body)
        if len(calls) < 3:
            raise RetryLater(0.25)

    stage.consume(handle)
    stage.deliver(b"1")
    stage.advance(0.5)
    assert calls == [b"1"] * 3
    assert stage.take_settled() == [("ack", 1)]


def test_what_became_stale_is_not_tried_again(stage: Stage) -> None:
    calls: list[bytes] = []

    def handle(delivery: Delivery) -> None:
        calls.append(delivery.body)
        raise RetryLater(1.0)

    stage.consume(handle)
    stage.deliver(b"1")
    stage.close_channel()
    stage.advance(5)
    assert calls == [b"1"]
    assert stage.take_settled() == []


# --------------------------------------------------------------------------- how many at a time


@pytest.mark.covers("S89", "L07")
def test_no_more_handlers_are_at_work_than_were_asked_for(stage: Stage) -> None:
    work = Work()
    consumer = stage.consume(work, concurrency=2)
    stage.deliver(b"1", b"2", b"3", b"4")
    assert work.begun == [b"1", b"2"]
    assert consumer.waiting == 2
    work.ends[b"2"].callback(None)
    assert work.begun == [b"1", b"2", b"3"]
    work.ends[b"1"].errback(Drop())
    work.ends[b"3"].callback(None)
    work.ends[b"4"].callback(None)
    assert sorted(stage.take_settled()) == [("ack", -4)]


@pytest.mark.covers("T-CON-13")
def test_one_at_a_time_keeps_the_order(stage: Stage) -> None:
    work = Work()
    stage.consume(work)
    stage.deliver(b"1", b"2")
    assert work.begun == [b"1"]
    work.ends[b"1"].callback(None)
    stage.deliver(b"3")
    assert work.begun == [b"1", b"2"]
    work.ends[b"2"].callback(None)
    assert work.begun == [b"1", b"2", b"3"]


@pytest.mark.covers("T-CON-13")
def test_equal_keys_go_one_after_another_and_others_beside_them(stage: Stage) -> None:
    work = Work()
    stage.consume(work, concurrency=10, order_by=lambda delivery: delivery.body[:1])
    stage.deliver(b"a1", b"a2", b"b1", b"a3")
    assert work.begun == [b"a1", b"b1"]
    work.ends[b"a1"].errback(RetryLater(5.0))
    assert work.begun == [b"a1", b"b1"]  # the key waits with it
    stage.advance(5)
    assert work.begun == [b"a1", b"b1", b"a1"]
    work.ends[b"a1"].callback(None)
    assert work.begun == [b"a1", b"b1", b"a1", b"a2"]


def test_a_message_without_a_key_is_judged_as_if_its_handler_had_failed(
    stage: Stage, logged_errors: LoggedErrors
) -> None:
    def key(delivery: Delivery) -> str:
        if delivery.body == b"bad":
            raise ValueError("no key")
        return "key"

    got: list[Delivery] = []
    stage.consume(got.append, order_by=key)
    stage.deliver(b"bad", b"good")
    assert [one.body for one in got] == [b"good"]
    assert stage.take_settled() == [("reject requeue", 1), ("ack", 2)]
    assert len(logged_errors.flush(ValueError)) == 1


@pytest.mark.covers("T-ACK-04", "T-ACK-01")
def test_what_became_stale_while_it_waited_is_handed_to_nobody(stage: Stage) -> None:
    work = Work()
    consumer = stage.consume(work, order_by=lambda delivery: delivery.body)
    stage.deliver(b"1", b"2", b"3")
    assert consumer.channel is not None
    consumer.channel.basic_recover()
    work.ends[b"1"].callback(None)
    assert work.begun == [b"1"]
    assert consumer.waiting == 0
    assert stage.take_settled() == []


# --------------------------------------------------------------------------- ack modes


@pytest.mark.covers("S14")
def test_in_manual_mode_nothing_is_settled_by_us(stage: Stage, logged_errors: LoggedErrors) -> None:
    got: list[Delivery] = []

    def handle(delivery: Delivery) -> None:
        got.append(delivery)
        if delivery.body != b"fine":
            raise {b"verdict": Requeue(), b"bad": ValueError()}[delivery.body]

    stage.consume(handle, ack="manual")
    stage.deliver(b"fine", b"verdict", b"bad")
    assert stage.take_settled() == []
    assert len(logged_errors.flush(ValueError)) == 1
    assert got[1].ack() is Settlement.SENT
    assert stage.take_settled() == [("ack", 2)]


def test_early_acks_come_before_the_handler(stage: Stage, logged_errors: LoggedErrors) -> None:
    states: list[bool] = []

    def handle(delivery: Delivery) -> None:
        states.append(delivery.settled)
        raise ValueError("too late")

    stage.consume(handle, ack="early")
    stage.deliver(b"1", b"2")
    assert states == [True, True]
    assert stage.take_settled() == [("ack", -2)]
    assert len(logged_errors.flush(ValueError)) == 2


# --------------------------------------------------------------------------- the end


@pytest.mark.covers("S91", "T-CON-03", "L10")
def test_what_waits_is_given_back_and_what_is_at_work_may_finish(stage: Stage) -> None:
    work = Work()
    consumer = stage.consume(work)
    stage.deliver(b"1", b"2", b"3")
    cancelled = consumer.cancel()
    stage.listen()
    assert stage.names()[-1] == "basic.cancel"
    assert stage.take_settled() == [("nack requeue", 2), ("nack requeue", 3)]
    stage.deliver(b"4")  # before the broker has heard of it
    assert stage.take_settled() == [("nack requeue", 4)]
    stage.agree()
    assert is_pending(cancelled)
    work.ends[b"1"].callback(None)
    stage.agree()
    assert success_of(cancelled) is None
    assert stage.settled == [("ack", 1)]
    assert stage.names()[-1] == "channel.close"
    assert success_of(consumer.closed) is None


@pytest.mark.covers("S91")
def test_who_does_not_finish_in_time_is_cancelled_and_his_message_given_back(
    stage: Stage, logged_errors: LoggedErrors
) -> None:
    seen: list[str] = []

    async def cooperative(delivery: Delivery) -> None:
        try:
            await Deferred()
        finally:
            seen.append("finally")

    async def stubborn(delivery: Delivery) -> None:
        try:
            await Deferred()
        except CancelledError:
            raise ValueError("cannot be bothered") from None

    async def unimpressed(delivery: Delivery) -> None:
        try:
            await Deferred()
        except CancelledError:
            return

    class Dead(Deferred[None]):
        def cancel(self) -> None:
            seen.append("ignored")

    def dead(delivery: Delivery) -> Deferred[None]:
        return Dead()

    kinds: dict[bytes, Callable[[Delivery], object]] = {
        b"1": cooperative,
        b"2": stubborn,
        b"3": unimpressed,
        b"4": dead,
    }
    consumer = stage.consume(lambda delivery: kinds[delivery.body](delivery), concurrency=4)
    stage.deliver(*kinds)
    cancelled = Watched(consumer.cancel(timeout=5.0))
    stage.advance(4.9)
    assert stage.settled == []
    assert cancelled.pending
    stage.advance(0.2)
    assert cancelled.value is None
    assert stage.settled == [("nack requeue", tag) for tag in (1, 2, 3, 4)]
    assert seen == ["finally", "ignored"]
    assert len(logged_errors.flush(ValueError)) == 1


def test_who_waits_to_try_again_gives_back_at_the_end(stage: Stage) -> None:
    consumer = stage.consume(raising(RetryLater(100.0))[0], concurrency=2)
    stage.deliver(b"1", b"2")
    cancelled = consumer.cancel()
    stage.agree()
    assert success_of(cancelled) is None
    assert stage.settled == [("nack requeue", 1), ("nack requeue", 2)]


def test_who_wants_to_try_again_while_all_leave_gives_back(stage: Stage) -> None:
    work = Work()
    consumer = stage.consume(work)
    stage.deliver(b"1")
    consumer.cancel()
    work.ends[b"1"].errback(RetryLater())
    stage.agree()
    assert stage.settled == [("nack requeue", 1)]


@pytest.mark.covers("T-CON-12", "T-CON-03")
def test_without_acks_what_has_come_is_handled_before_the_end(stage: Stage) -> None:
    work = Work()
    consumer = stage.consume(work, ack="none")
    stage.deliver(b"1", b"2", b"3")
    cancelled = consumer.cancel()
    stage.listen()
    stage.deliver(b"4")
    stage.agree()
    for body in (b"1", b"2", b"3", b"4"):
        assert is_pending(cancelled)
        work.ends[body].callback(None)
    stage.agree()
    assert success_of(cancelled) is None


@pytest.mark.covers("T-CON-12")
def test_what_nobody_handles_in_time_is_not_dropped_silently(stage: Stage) -> None:
    with listening() as ear:
        consumer = stage.consume(Work(), ack="none")
        stage.deliver(b"1", b"2", b"3")
        cancelled = consumer.cancel(timeout=1.0)
        stage.listen()
        stage.peer.advance(1)
        stage.deliver(b"4")
        stage.agree()
    assert success_of(cancelled) is None
    lost = [event["count"] for event in ear.said("need no ack")]
    assert lost == [2, 1]


@pytest.mark.parametrize("which", range(3))
def test_a_handler_can_end_its_consumer(stage: Stage, which: int) -> None:
    stop = StopConsuming("enough")
    consumer = stage.consume(raising(stop)[which])
    stage.deliver(b"1", b"2")
    stage.agree()
    assert stage.settled[-2:] == [("nack requeue", 1), ("nack requeue", 2)]
    assert success_of(consumer.closed) is stop
    assert not consumer.is_active


@pytest.mark.parametrize("which", range(3))
def test_a_handler_can_be_done_and_end_its_consumer(stage: Stage, which: int) -> None:
    stop = StopConsuming("that was the last", ack=True)
    consumer = stage.consume(raising(stop)[which])
    stage.deliver(b"1", b"2")
    stage.agree()
    assert sorted(stage.settled) == [("ack", 1), ("nack requeue", 2)]
    assert success_of(consumer.closed) is stop


def test_no_handler_begins_once_another_has_ended_the_consumer(stage: Stage) -> None:
    work = Work()
    stop = StopConsuming("enough")
    consumer = stage.consume(work)
    stage.deliver(b"1", b"2")
    work.ends[b"1"].errback(stop)
    stage.agree()
    assert work.begun == [b"1"]
    assert stage.take_settled() == [("nack requeue", 1), ("nack requeue", 2)]
    assert success_of(consumer.closed) is stop


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_the_end_of_the_program_gives_the_message_back_and_goes_on(
    stage: Stage, error: BaseException, logged_errors: LoggedErrors
) -> None:
    consumer = stage.consume(raising(error)[0])
    with pytest.raises(type(error)):
        stage.deliver(b"1", b"2")
    stage.peer.protocol.pump()
    stage.agree()
    reason = success_of(consumer.closed)
    assert isinstance(reason, StopConsuming)
    assert reason.__cause__ is error
    assert stage.settled == [("nack requeue", 1), ("nack requeue", 2)]
    assert len(logged_errors.flush(type(error))) == 1


@pytest.mark.covers("T-ACK-08", "T-ACK-01")
def test_handlers_go_on_when_the_connection_is_lost_and_their_ends_are_stale(stage: Stage) -> None:
    work = Work()
    consumer = stage.consume(work, concurrency=2)
    stage.deliver(b"1", b"2", b"3")
    stage.peer.hang_up()
    assert success_of(consumer.closed) is not None
    work.ends[b"1"].callback(None)
    assert work.deliveries[1].ack() is Settlement.STALE
    work.ends[b"2"].callback(None)
    assert work.begun == [b"1", b"2"]


@pytest.mark.covers("T-ACK-08")
def test_an_ack_while_the_channel_is_being_closed_masks_nothing(stage: Stage) -> None:
    def handle(delivery: Delivery) -> None:
        delivery.channel.close()
        delivery.settled = delivery.stale = False  # as if it had come a moment later

    stage.consume(handle)
    stage.deliver(b"1")
    assert stage.take_settled() == []
    assert stage.client.is_open


def test_a_handler_is_whatever_can_be_called(stage: Stage) -> None:
    wrong: Any = "handler"
    with pytest.raises(TypeError, match="a handler is called with each delivery, str cannot be"):
        stage.client.consume("q", wrong)
