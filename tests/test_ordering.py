from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from tests.ordering_model import Model
from tests.talk import elsewhere, opened
from txamqpx.errors import (
    ConnectionForced,
    ConnectionLost,
    EncodeError,
    NotFound,
    NotProcessed,
    PreconditionFailed,
    RPCTimeout,
)
from txamqpx.ordering import SECOND_CHANCES, Footprint, Operations, footprint_of
from txamqpx.spec.amqp0_9_1 import (
    BasicGet,
    BasicQos,
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionClose,
    ExchangeBind,
    ExchangeDeclare,
    ExchangeDeclareOk,
    ExchangeDelete,
    ExchangeUnbind,
    QueueBind,
    QueueBindOk,
    QueueDeclare,
    QueueDeclareOk,
    QueueDelete,
    QueueDeleteOk,
    QueuePurge,
    QueueUnbind,
)
from txamqpx.spec.base import Method, Request
from txamqpx.testing import ScriptedPeer, Watched, failure_of, is_pending, success_of

Q = ("queue", "q")
X, Y = ("exchange", "x"), ("exchange", "y")
BINDINGS = ("bindings",)
DECLARED = QueueDeclareOk("q", 0, 0)


@pytest.fixture
def peer() -> ScriptedPeer:
    return opened(rpc_timeout=10.0)


@pytest.fixture
def operations(peer: ScriptedPeer) -> Operations:
    return Operations(peer.protocol)


def on_fresh_channel(peer: ScriptedPeer, method: Method) -> int:
    """Expect a method on a channel that is opened for it, and return the number."""
    number = peer.expect(ChannelOpen).channel
    peer.send(number, ChannelOpenOk())
    peer.expect(method, number)
    return number


def close_over(peer: ScriptedPeer, number: int, code: int, text: str, culprit: type[Method] | None) -> None:
    """Close a channel, and take the client's answer."""
    index = 0 if culprit is None else culprit.index
    with peer.wire.held():
        peer.send(number, ChannelClose(code, text, index >> 16, index & 0xFFFF))
    peer.expect(ChannelCloseOk, number)


# --------------------------------------------------------------------------- what concerns what


@pytest.mark.parametrize(
    ("method", "footprint"),
    [
        (QueueDeclare(""), Footprint()),
        (QueueDeclare("q"), Footprint((Q,))),
        (QueueDeclare("q", passive=True), Footprint((), (Q,))),
        (QueueDelete("q"), Footprint((Q,), (BINDINGS,))),
        (QueuePurge("q"), Footprint((Q,))),
        (BasicGet("q"), Footprint((Q,))),
        (ExchangeDeclare("x"), Footprint((X,))),
        (ExchangeDeclare("x", auto_delete=True), Footprint((X, BINDINGS))),
        (ExchangeDeclare("x", passive=True), Footprint((), (X,))),
        (ExchangeDelete("x"), Footprint((X,), (BINDINGS,))),
        (ExchangeDelete("x", True), Footprint((X, BINDINGS))),
        (QueueBind("q", "x"), Footprint((("binding", "q", "x"),), (Q, X))),
        (QueueUnbind("q", "x"), Footprint((("binding", "q", "x"), X), (Q,))),
        (ExchangeBind("y", "x"), Footprint((("binding", "y", "x"),), (Y, X))),
        (ExchangeUnbind("y", "x"), Footprint((("binding", "y", "x"), X), (Y,))),
    ],
)
def test_a_call_has_a_footprint(method: Method, footprint: Footprint) -> None:
    assert footprint_of(method) == footprint


def test_what_concerns_a_whole_channel_has_none() -> None:
    with pytest.raises(TypeError, match=r"basic\.qos needs a channel of its own"):
        footprint_of(BasicQos(0, 1, False))


# --------------------------------------------------------------------------- the order


@pytest.mark.covers("S03", "T-CH-08")
@pytest.mark.parametrize("seed", range(60))
def test_wherever_a_program_goes_its_calls_keep_their_order_and_end_once(seed: int) -> None:
    model = Model(seed)
    model.run(150)
    assert model.violations() == []
    assert not model.peer.breach
    assert not model.operations.busy


def test_the_model_comes_to_everything_that_can_happen() -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(20):
        model = Model(seed)
        model.run(150)
        outcomes += model.outcomes
    assert outcomes.keys() >= {"done", "NotFound", "ConnectionLost", "CancelledError", "RPCTimeout"}


def test_calls_that_have_nothing_in_common_go_to_different_channels(
    peer: ScriptedPeer, operations: Operations
) -> None:
    answers = [operations.call(QueueDeclare(name)) for name in ("a", "b")]
    numbers = [on_fresh_channel(peer, QueueDeclare(name)) for name in ("a", "b")]
    for number, name in zip(reversed(numbers), ("b", "a"), strict=True):
        peer.send(number, QueueDeclareOk(name, 0, 0))
    assert [success_of(answer).queue for answer in answers] == ["a", "b"]


def test_calls_of_which_one_changes_what_the_other_looks_at_follow_each_other_on_one_channel(
    peer: ScriptedPeer, operations: Operations
) -> None:
    operations.call(QueueDeclare("q"))
    operations.call(QueueDeclare("q", passive=True))
    operations.call(QueuePurge("q"))
    number = on_fresh_channel(peer, QueueDeclare("q"))
    peer.expect(QueueDeclare("q", passive=True), number)
    peer.expect(QueuePurge("q"), number)


def test_calls_that_only_look_disturb_nobody(peer: ScriptedPeer, operations: Operations) -> None:
    for _ in range(2):
        operations.call(QueueDeclare("q", passive=True))
    assert on_fresh_channel(peer, QueueDeclare("q", passive=True)) == 1
    assert on_fresh_channel(peer, QueueDeclare("q", passive=True)) == 2
    operations.call(QueueDelete("q"))
    peer.expect_nothing()
    peer.send(1, DECLARED)
    peer.expect(QueueDelete("q"), 2)


def test_a_call_after_calls_on_two_channels_waits_until_one_is_done(
    peer: ScriptedPeer, operations: Operations
) -> None:
    operations.call(ExchangeDeclare("x"))
    operations.call(QueueDeclare("q"))
    bound = operations.call(QueueBind("q", "x"))
    on_fresh_channel(peer, ExchangeDeclare("x"))
    on_fresh_channel(peer, QueueDeclare("q"))
    peer.expect_nothing()
    peer.send(1, ExchangeDeclareOk())
    peer.expect(QueueBind("q", "x"), 2)  # behind the declare, which the broker has not answered
    peer.send(2, DECLARED)
    peer.send(2, QueueBindOk())
    assert success_of(bound) == QueueBindOk()


def test_a_place_has_a_channel_to_itself(peer: ScriptedPeer, operations: Operations) -> None:
    operations.call(QueueDeclare("a"), place="here")
    operations.call(QueueDeclare("b"), place="here")
    operations.call(QueueDeclare("b"))
    assert on_fresh_channel(peer, QueueDeclare("a")) == 1
    peer.expect(QueueDeclare("b"), 1)
    peer.expect_nothing()
    peer.send(1, QueueDeclareOk("a", 0, 0))
    peer.send(1, QueueDeclareOk("b", 0, 0))
    assert on_fresh_channel(peer, QueueDeclare("b")) == 2


def test_a_queue_without_a_name_waits_for_nobody(peer: ScriptedPeer, operations: Operations) -> None:
    for _ in range(2):
        operations.call(QueueDeclare(""))
    assert [on_fresh_channel(peer, QueueDeclare("")) for _ in range(2)] == [1, 2]


def test_the_publishes_before_a_call_are_waited_for(peer: ScriptedPeer) -> None:
    settled: Deferred[None] = Deferred()
    asked: list[Footprint] = []

    def before(footprint: Footprint) -> Deferred[None] | None:
        asked.append(footprint)
        return settled if footprint == Footprint((Q,)) else None

    operations = Operations(peer.protocol, before)
    operations.call(QueuePurge("q"))
    operations.call(QueueBind("q", "x"))
    peer.expect_nothing()
    settled.callback(None)
    on_fresh_channel(peer, QueuePurge("q"))
    peer.expect(QueueBind("q", "x"), 1)
    assert asked == [footprint_of(QueuePurge("q")), footprint_of(QueueBind("q", "x"))]


# --------------------------------------------------------------------------- errors


@pytest.mark.covers("S26", "T-CH-08")
def test_an_error_hits_the_call_that_it_is_about_and_nobody_hears_of_the_others_being_sent_again(
    peer: ScriptedPeer,
) -> None:
    operations = Operations(peer.protocol, channels=1)
    calls: list[Request[Any]] = [
        *(QueueDeclare("a"), QueueDeclare("q")),
        *(QueueBind("q", "x"), QueueDeclare("b")),
    ]
    answers = [Watched(operations.call(call)) for call in calls]
    on_fresh_channel(peer, calls[0])
    for call in calls[1:]:
        peer.expect(call, 1)
    peer.send(1, QueueDeclareOk("a", 0, 0))
    close_over(peer, 1, 406, "inequivalent arg 'durable' for queue 'q'", QueueDeclare)
    assert answers[1].error(PreconditionFailed).queue == "q"
    assert answers[2].pending
    on_fresh_channel(peer, QueueBind("q", "x"))
    peer.expect(QueueDeclare("b"), 2)
    peer.send(2, QueueBindOk())
    peer.send(2, QueueDeclareOk("b", 0, 0))
    assert answers[2].value == QueueBindOk()
    assert answers[3].value == QueueDeclareOk("b", 0, 0)


def test_what_is_called_by_whoever_hears_of_an_error_comes_after_those_that_are_sent_again(
    peer: ScriptedPeer,
) -> None:
    operations = Operations(peer.protocol, channels=1)
    later: list[Deferred[Any]] = []
    refused = operations.call(QueueDeclare("q", durable=True))
    refused.addErrback(lambda failure: later.append(operations.call(QueueDelete("q"))))
    operations.call(QueueBind("q", "x"))
    on_fresh_channel(peer, QueueDeclare("q", durable=True))
    peer.expect(QueueBind("q", "x"))
    close_over(peer, 1, 406, "queue 'q'", QueueDeclare)
    on_fresh_channel(peer, QueueBind("q", "x"))
    peer.expect(QueueDelete("q"), 2)
    assert is_pending(later[0])


def test_each_of_many_that_fail_gets_its_own_error(peer: ScriptedPeer) -> None:
    operations = Operations(peer.protocol, channels=1)
    names = [str(number) for number in range(3 * SECOND_CHANCES)]
    answers = [operations.call(QueueDeclare(name, passive=True)) for name in names]
    for index, name in enumerate(names):
        number = on_fresh_channel(peer, QueueDeclare(name, passive=True))
        for other in names[index + 1 :]:
            peer.expect(QueueDeclare(other, passive=True), number)
        close_over(peer, number, 404, f"no queue '{name}' in vhost '/'", QueueDeclare)
    assert [failure_of(answer, NotFound).queue for answer in answers] == names


def test_where_the_broker_blames_nobody_each_call_has_a_few_chances(peer: ScriptedPeer) -> None:
    operations = Operations(peer.protocol, channels=1)
    answers = [Watched(operations.call(QueueDeclare(name))) for name in ("a", "b")]
    for chance in range(1, SECOND_CHANCES + 2):
        on_fresh_channel(peer, QueueDeclare("a"))
        peer.expect(QueueDeclare("b"), chance)
        close_over(peer, chance, 406, "no reason", None)
    assert str(answers[0].error(NotProcessed).__cause__) == "406 no reason"
    # It was never the turn of the second.
    on_fresh_channel(peer, QueueDeclare("b"))
    peer.send(SECOND_CHANCES + 2, QueueDeclareOk("b", 0, 0))
    assert answers[1].value == QueueDeclareOk("b", 0, 0)


def test_what_does_not_fit_is_refused_at_once_and_leaves_no_trace(operations: Operations) -> None:
    with pytest.raises(EncodeError, match=r"queue\.declare queue"):
        operations.call(QueueDeclare("q" * 256))
    with pytest.raises(EncodeError, match="a frame holds"):
        operations.call(QueueDeclare("q", arguments={"x": "y" * 200_000}))
    assert not operations.busy
    assert operations.made == 0


def test_a_call_from_another_thread_is_refused_and_leaves_no_trace(
    peer: ScriptedPeer, operations: Operations
) -> None:
    error = elsewhere(lambda: operations.call(QueueDeclare("q")))
    assert "outside the reactor's thread" in str(error)
    assert not operations.busy
    peer.expect_nothing()


def test_what_turns_out_too_large_when_it_is_sent_fails_alone(peer: ScriptedPeer) -> None:
    operations = Operations(peer.protocol, channels=1)
    completed: Deferred[None] = Deferred()
    large = QueueDeclare("q")
    first = operations.call(QueueDeclare("q"))
    refused = operations.call(large, after=completed)
    large.arguments = {"x": "y" * 200_000}
    completed.callback(None)
    assert "a frame holds" in failure_of(refused, EncodeError).reason
    operations.call(QueueDelete("q"), place="elsewhere")
    on_fresh_channel(peer, QueueDeclare("q"))
    peer.expect_nothing()
    peer.send(1, DECLARED)
    assert success_of(first) == DECLARED
    on_fresh_channel(peer, QueueDelete("q"))


@pytest.mark.covers("T-CH-12")
def test_when_the_connection_ends_each_call_fails_with_an_error_of_its_own(peer: ScriptedPeer) -> None:
    operations = Operations(peer.protocol)
    sent = operations.call(QueueDeclare("q"))
    elsewhere = operations.call(ExchangeDeclare("x"))
    waiting = [operations.call(QueueBind("q", "x")) for _ in range(3000)]
    idle = operations.when_idle()
    peer.send(0, ConnectionClose(320, "CONNECTION_FORCED", 0, 0))
    calls: list[Deferred[Any]] = [sent, elsewhere, *waiting]
    errors = [failure_of(call, ConnectionForced) for call in calls]
    assert len({id(error) for error in errors}) == len(errors)
    assert success_of(idle) is None
    failure_of(operations.call(QueueDeclare("q")), ConnectionForced)
    assert not operations.busy


# --------------------------------------------------------------------------- giving up


def test_a_call_that_is_cancelled_before_it_was_sent_is_never_sent(
    peer: ScriptedPeer, operations: Operations
) -> None:
    operations.call(ExchangeDeclare("x"))
    operations.call(QueueDeclare("q"))
    given_up = operations.call(QueueBind("q", "x"))
    operations.call(QueueDelete("q"))
    given_up.cancel()
    failure_of(given_up, CancelledError)
    on_fresh_channel(peer, ExchangeDeclare("x"))
    on_fresh_channel(peer, QueueDeclare("q"))
    peer.expect_nothing()
    peer.send(1, ExchangeDeclareOk())
    peer.expect_nothing()  # what came after the one that was given up comes after those before it
    peer.send(2, DECLARED)
    peer.expect(QueueDelete("q"))


@pytest.mark.covers("T-CH-06")
def test_the_answer_to_a_call_that_was_given_up_is_swallowed_and_may_be_undone(
    peer: ScriptedPeer, operations: Operations
) -> None:
    undone: list[Method] = []
    given_up = [operations.call(QueueDeclare("q"), undo=undo) for undo in (None, undone.append)]
    kept = operations.call(QueueDeclare("q"))
    for answer in given_up:
        answer.cancel()
        failure_of(answer, CancelledError)
    assert operations.busy
    on_fresh_channel(peer, QueueDeclare("q"))
    for number in range(3):
        peer.send(1, QueueDeclareOk("q", number, 0))
    assert undone == [QueueDeclareOk("q", 1, 0)]
    assert success_of(kept) == QueueDeclareOk("q", 2, 0)


def test_a_call_that_was_given_up_is_not_sent_again(peer: ScriptedPeer) -> None:
    operations = Operations(peer.protocol, channels=1)
    failing = Watched(operations.call(QueueDeclare("a")))
    given_up = operations.call(QueueDeclare("b"))
    on_fresh_channel(peer, QueueDeclare("a"))
    peer.expect(QueueDeclare("b"))
    given_up.cancel()
    failure_of(given_up, CancelledError)
    close_over(peer, 1, 406, "queue 'a'", QueueDeclare)
    failing.error(PreconditionFailed)
    peer.expect_nothing()
    assert not operations.busy


@pytest.mark.covers("T-CH-06")
def test_time_runs_from_the_call_whether_it_was_sent_or_not(peer: ScriptedPeer) -> None:
    operations = Operations(peer.protocol, lambda footprint: Deferred() if footprint.writes else None)
    waiting = Watched(operations.call(QueueDeclare("q")))
    sent = Watched(operations.call(QueueDeclare("p", passive=True), timeout=3.0))
    peer.advance(2.9)
    assert sent.pending
    peer.advance(0.2)
    assert sent.error(RPCTimeout).seconds == 3.0
    peer.advance(7.0)
    assert waiting.error(RPCTimeout).operation == "queue.declare"
    on_fresh_channel(peer, QueueDeclare("p", passive=True))
    peer.expect_nothing()


# --------------------------------------------------------------------------- things that others do


def test_what_others_begin_has_its_turn(peer: ScriptedPeer, operations: Operations) -> None:
    ends: list[Deferred[str]] = []

    def begin() -> Deferred[str]:
        ends.append(Deferred())
        return ends[-1]

    operations.call(QueueDeclare("q"))
    first = operations.run(begin, Footprint((Q,)))
    second = operations.run(begin, Footprint((Q,)))
    on_fresh_channel(peer, QueueDeclare("q"))
    assert ends == []
    peer.send(1, DECLARED)
    assert len(ends) == 1
    operations.call(QueueDelete("q"))
    ends[0].callback("first")
    assert success_of(first) == "first"
    ends[1].errback(ConnectionLost("second"))
    failure_of(second, ConnectionLost)
    peer.expect(QueueDelete("q"), 1)


def test_what_others_begin_may_end_at_once_or_never_begin(operations: Operations) -> None:
    def refuse() -> Deferred[None]:
        raise NotFound("at once")

    assert success_of(operations.run(lambda: succeed(1), Footprint((Q,)))) == 1
    failure_of(operations.run(lambda: fail(NotFound("no")), Footprint((Q,))), NotFound)
    failure_of(operations.run(refuse, Footprint((Q,))), NotFound)
    assert not operations.busy


def test_what_others_have_begun_is_cancelled_with_its_deferred(peer: ScriptedPeer) -> None:
    operations = Operations(peer.protocol)
    begun: Deferred[None] = Deferred()
    running = operations.run(lambda: begun, Footprint((Q,)))
    waiting = operations.run(lambda: begun, Footprint((Q,)))
    waiting.cancel()
    failure_of(waiting, CancelledError)
    running.cancel()
    failure_of(running, CancelledError)
    assert begun.called
    assert not operations.busy


def test_what_does_not_heed_its_cancelling_keeps_its_turn_until_its_time_is_over(peer: ScriptedPeer) -> None:
    operations = Operations(peer.protocol)
    inner: list[Deferred[None]] = []
    cancelled: list[None] = []

    def begin() -> Deferred[None]:
        stubborn: Deferred[None] = Deferred(lambda _: cancelled.append(None))
        inner.append(Deferred())
        return stubborn.addBoth(lambda _: inner[-1])

    ended = operations.run(begin, Footprint((Q,)))
    ended.cancel()
    failure_of(ended, CancelledError)
    busy = [operations.busy]
    inner[0].callback(None)
    busy.append(operations.busy)
    assert busy == [True, False]
    outcome = Watched(operations.run(begin, Footprint((Q,)), name="something", timeout=1.0))
    peer.advance(1.1)
    assert cancelled == [None, None]
    assert outcome.error(RPCTimeout).operation == "something"
    assert not operations.busy
    inner[1].callback(None)  # which nobody waits for any more


def test_a_call_without_an_answer_holds_up_what_comes_after_it_until_its_time_is_over(
    peer: ScriptedPeer, operations: Operations
) -> None:
    stuck = Watched(operations.call(QueueDeclare("q"), timeout=3.0))
    given_up = operations.call(QueueDeclare("p"), timeout=4.0)
    given_up.cancel()
    failure_of(given_up, CancelledError)
    idle = operations.when_idle()
    assert on_fresh_channel(peer, QueueDeclare("q")) == 1
    assert on_fresh_channel(peer, QueueDeclare("p")) == 2
    peer.advance(3.0)
    stuck.error(RPCTimeout)
    operations.call(QueueDelete("q"))
    assert on_fresh_channel(peer, QueueDelete("q")) == 3  # not behind what the broker is stuck with
    assert is_pending(idle)
    peer.advance(1.0)
    assert success_of(idle) is None
    peer.send(3, QueueDeleteOk(0))
    peer.send(1, DECLARED)
    for name in "rst":
        operations.call(QueueDeclare(name))
    assert {peer.expect(QueueDeclare).channel for _ in range(2)} == {1, 3}
    assert on_fresh_channel(peer, QueueDeclare("t")) == 4


def test_what_waits_for_two_things_waits_for_both(peer: ScriptedPeer) -> None:
    for order in ((0, 1), (1, 0)):
        waits: list[Deferred[None]] = [Deferred(), Deferred()]
        operations = Operations(peer.protocol, partial(_return, waits[0]))
        operations.call(QueueDeclare("q"), after=waits[1])
        for index in order:
            peer.expect_nothing()
            waits[index].callback(None)
        on_fresh_channel(peer, QueueDeclare("q"))


def _return(settled: Deferred[None], footprint: Footprint) -> Deferred[None]:
    return settled


def test_a_call_fails_with_what_it_waits_for(peer: ScriptedPeer, operations: Operations) -> None:
    after: Deferred[None] = Deferred()
    called = operations.call(QueueDeclare("q"), after=after)
    after.errback(NotFound("something else"))
    failure_of(called, NotFound)
    peer.expect_nothing()
    assert not operations.busy


def test_an_answer_leaves_no_timer_behind(peer: ScriptedPeer, operations: Operations) -> None:
    before = list(peer.clock.getDelayedCalls())
    operations.call(QueueDeclare("q"))
    on_fresh_channel(peer, QueueDeclare("q"))
    assert len(peer.clock.getDelayedCalls()) == len(before) + 1
    peer.send(1, DECLARED)
    assert list(peer.clock.getDelayedCalls()) == before


def test_one_whose_time_is_over_leaves_those_before_it_in_their_place(
    peer: ScriptedPeer, operations: Operations
) -> None:
    operations.call(QueueDeclare("q"))
    operations.call(QueuePurge("q"), timeout=1.0).addErrback(lambda failure: failure.trap(RPCTimeout))
    operations.call(QueueDelete("q"), place="elsewhere")
    on_fresh_channel(peer, QueueDeclare("q"))
    peer.expect(QueuePurge("q"), 1)
    peer.advance(1.0)
    peer.expect_nothing()
    peer.send(1, DECLARED)
    on_fresh_channel(peer, QueueDelete("q"))
    assert operations.busy


def test_what_is_given_up_by_its_own_beginning_is_cancelled(operations: Operations) -> None:
    begun: Deferred[None] = Deferred()

    def begin() -> Deferred[None]:
        running.cancel()
        return begun

    blocking: Deferred[None] = Deferred()
    operations.run(lambda: blocking, Footprint((Q,)))
    running = operations.run(begin, Footprint((Q,)))
    blocking.callback(None)
    assert begun.called
    failure_of(running, CancelledError)
    assert not operations.busy


def test_who_waits_for_what_was_called_so_far_does_not_wait_for_more(
    peer: ScriptedPeer, operations: Operations
) -> None:
    assert success_of(operations.when_idle()) is None
    operations.call(QueueDeclare("a"))
    first, given_up = operations.when_idle(), operations.when_idle()
    operations.call(QueueDeclare("b"))
    both = operations.when_idle()
    given_up.cancel()
    failure_of(given_up, CancelledError)
    assert operations.made == 2
    peer.wire.pump()
    peer.send(1, ChannelOpenOk())
    peer.send(1, QueueDeclareOk("a", 0, 0))
    assert success_of(first) is None
    assert is_pending(both)
    peer.send(2, ChannelOpenOk())
    peer.send(2, QueueDeclareOk("b", 0, 0))
    assert success_of(both) is None
