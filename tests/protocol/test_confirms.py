from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.pair import NO_PROPERTIES, client, open_channel
from txamqpx.errors import ChannelClosed, Closed
from txamqpx.protocol.confirms import ConfirmLedger, Entry
from txamqpx.protocol.events import Content, Returned
from txamqpx.protocol.frames import METHOD
from txamqpx.spec.amqp0_9_1 import BasicAck, BasicProperties, ConfirmSelect, ConfirmSelectOk

CORE = open_channel(client())


def entry(
    token: Any,
    exchange: str = "",
    key: str = "key",
    mandatory: bool = True,
    body: bytes = b"body",
    properties: BasicProperties = NO_PROPERTIES,
) -> Entry:
    return (token, 1, exchange, key, mandatory, properties, body)


def ledger(*entries: Entry | str) -> ConfirmLedger:
    kept = ConfirmLedger()
    for one in entries:
        kept.register(entry(one) if isinstance(one, str) else one)
    return kept


def settle(kept: ConfirmLedger, tag: int, multiple: bool) -> tuple[list[Any], list[Any]]:
    tokens, messages = kept.settle(tag, multiple)
    return list(tokens), messages


def returned(
    exchange: str = "", key: str = "key", body: bytes = b"body", properties: BasicProperties = NO_PROPERTIES
) -> Returned:
    content = Content(BasicProperties, properties.encode(), body)
    return Returned(CORE, 312, "NO_ROUTE", exchange, key, content)


# --------------------------------------------------------------------------- settling


@pytest.mark.covers("T-PUB-01")
def test_numbers_begin_at_1_and_leave_none_out() -> None:
    kept = ConfirmLedger()
    assert kept.next_seq == 1
    assert [kept.register(entry(token)) for token in "abc"] == [1, 2, 3]
    assert kept.next_seq == 4


@pytest.mark.covers("T-PUB-03")
def test_one_number_settles_one_publish() -> None:
    kept = ledger("a", "b", "c")
    assert settle(kept, 2, False) == (["b"], [])
    assert len(kept) == 2


@pytest.mark.covers("T-PUB-03")
@pytest.mark.parametrize("tag", [0, 4, 2**63])
def test_a_number_that_is_not_outstanding_is_counted_and_harmless(tag: int) -> None:
    kept = ledger("a", "b", "c")
    assert settle(kept, tag, False) == ([], [])
    assert kept.unknown == 1
    assert len(kept) == 3


@pytest.mark.covers("T-PUB-03")
def test_several_are_all_up_to_the_number_even_if_it_is_settled_itself() -> None:
    kept = ledger("a", "b", "c", "d")
    kept.settle(3, False)
    assert settle(kept, 3, True) == (["a", "b"], [])
    assert [seq for seq, _ in kept] == [4]
    assert kept.unknown == 0


@pytest.mark.covers("T-PUB-03")
def test_zero_for_several_is_everything() -> None:
    kept = ledger("a", "b", "c")
    assert settle(kept, 0, True) == (["a", "b", "c"], [])


@pytest.mark.covers("T-PUB-03")
def test_zero_covers_nothing_that_the_broker_cannot_know_of() -> None:
    core = open_channel(client())
    core.send(ConfirmSelect())
    peer_knows = core.connection.outbox
    peer_knows.take()
    core.receive(METHOD, ConfirmSelectOk().encode(), 0, 4)
    for token in "abc":
        core.publish(token, b"", "", "key", NO_PROPERTIES, False)
        if token != "c":
            peer_knows.take()
    kept = core.confirms
    assert kept is not None
    core.receive(METHOD, BasicAck(0, True).encode(), 0, 13)
    assert [seq for seq, _ in kept] == [3]
    peer_knows.take()
    core.receive(METHOD, BasicAck(0, True).encode(), 0, 13)
    assert len(kept) == 0
    assert len(kept) == 0


@pytest.mark.covers("T-PUB-03")
def test_several_beyond_what_was_published_are_what_there_is() -> None:
    kept = ledger("a", "b")
    assert settle(kept, 2**63, True) == (["a", "b"], [])
    assert kept.register(entry("c")) == 3
    assert settle(kept, 3, True) == (["c"], [])


@pytest.mark.covers("T-PUB-03")
def test_several_that_settle_nothing_are_counted() -> None:
    kept = ledger("a", "b")
    kept.settle(2, True)
    assert settle(kept, 1, True) == ([], [])
    assert kept.unknown == 1


@pytest.mark.covers("T-PUB-03")
@given(st.data())
def test_the_ledger_agrees_with_a_plain_dict(data: st.DataObject) -> None:
    kept, model, last = ConfirmLedger(), dict[int, str](), 0
    for _ in range(data.draw(st.integers(0, 40))):
        if data.draw(st.booleans()):
            last += 1
            assert kept.register(entry(f"token {last}")) == last
            model[last] = f"token {last}"
            continue
        tag, multiple = data.draw(st.integers(0, last + 2)), data.draw(st.booleans())
        covered = (
            [seq for seq in model if seq <= (tag or last)] if multiple else [tag] if tag in model else []
        )
        assert settle(kept, tag, multiple) == ([model.pop(seq) for seq in covered], [])
        assert dict(kept).keys() == model.keys()


# --------------------------------------------------------------------------- what was returned


@pytest.mark.covers("T-PUB-04")
def test_a_return_is_the_publish_that_it_was_and_its_ack_says_so() -> None:
    kept = ledger(entry("a", key="x"), entry("b", key="y"), entry("c", key="z"))
    message = returned(key="y")
    assert kept.match_return(message)
    assert settle(kept, 3, True) == (["a", "c"], [("b", message)])
    assert len(kept) == 0


@pytest.mark.covers("T-PUB-04")
def test_a_single_ack_of_a_returned_publish_says_so_too() -> None:
    kept = ledger("a", "b")
    message = returned()
    assert kept.match_return(message)
    assert settle(kept, 1, False) == ([], [("a", message)])
    assert settle(kept, 2, False) == (["b"], [])


@pytest.mark.covers("T-PUB-04")
@pytest.mark.parametrize(
    "other",
    [
        entry("a", mandatory=False),
        entry("a", exchange="another"),
        entry("a", key="another"),
        entry("a", body=b"another"),
    ],
    ids=["not mandatory", "exchange", "routing key", "body"],
)
def test_a_return_is_never_taken_for_another_publish(other: Entry) -> None:
    kept = ledger(other, "b")
    message = returned()
    assert kept.match_return(message)
    assert settle(kept, 0, True) == (["a"], [("b", message)])


@pytest.mark.covers("T-PUB-04")
def test_properties_decide_among_publishes_that_are_otherwise_equal() -> None:
    first, second = BasicProperties(message_id="1"), BasicProperties(message_id="2")
    kept = ledger(entry("a", properties=first), entry("b", properties=second))
    message = returned(properties=second)
    assert kept.match_return(message)
    assert settle(kept, 0, True) == (["a"], [("b", message)])


@pytest.mark.covers("T-PUB-04")
def test_properties_that_the_broker_changed_still_leave_the_earliest() -> None:
    properties = BasicProperties(headers={"BCC": ["x"]})
    kept = ledger(entry("a", properties=properties), entry("b", properties=properties))
    message = returned()
    assert kept.match_return(message)
    assert settle(kept, 0, True) == (["b"], [("a", message)])


@pytest.mark.covers("T-PUB-04")
def test_equal_publishes_come_back_in_their_order() -> None:
    kept = ledger("a", "b", "c")
    messages = [returned() for _ in range(3)]
    assert all(kept.match_return(message) for message in messages)
    assert not kept.match_return(returned())
    assert settle(kept, 0, True) == ([], list(zip("abc", messages, strict=True)))


@pytest.mark.covers("T-PUB-04")
def test_a_return_may_be_of_an_earlier_publish_than_the_last_one() -> None:
    kept = ledger(entry("a", key="x"), entry("b", key="y"))
    later, earlier = returned(key="y"), returned(key="x")
    assert kept.match_return(later)
    assert kept.match_return(earlier)
    assert settle(kept, 0, True) == ([], [("a", earlier), ("b", later)])


@pytest.mark.covers("T-PUB-04")
def test_a_return_of_something_that_nobody_published_is_told() -> None:
    kept = ledger()
    assert not kept.match_return(returned())
    kept = ledger("a")
    assert not kept.match_return(returned(key="another"))
    kept.settle(1, False)
    assert not kept.match_return(returned())


def test_what_was_settled_in_between_is_passed_over() -> None:
    kept = ledger("a", "b", "c")
    kept.settle(2, False)
    first, second = returned(), returned()
    assert kept.match_return(first)
    assert kept.match_return(second)
    assert settle(kept, 0, True) == ([], [("a", first), ("c", second)])


# --------------------------------------------------------------------------- whom the broker blames


def closed(text: str, operation: str = "basic.publish", code: int = 406) -> Closed:
    return ChannelClosed.from_reply(code, text, operation=operation)


USERS = [BasicProperties(user_id=name) for name in ("guest", "mallory")]
TIMES = [BasicProperties(expiration=time) for time in ("9", "99999999999")]


@pytest.mark.covers("T-PUB-07", "T-PUB-10", "T-PUB-11")
@pytest.mark.parametrize(
    ("text", "entries", "culprit"),
    [
        (
            "NOT_FOUND - no exchange 'gone' in vhost '/'",
            [entry("a"), entry("b", exchange="gone"), entry("c")],
            2,
        ),
        (
            "ACCESS_REFUSED - access to topic 'b' in exchange 'e' in vhost '/' refused for user 'guest'",
            [entry("a", exchange="e", key="a"), entry("b", exchange="e", key="b")],
            2,
        ),
        (
            "PRECONDITION_FAILED - user_id property set to 'mallory' but authenticated user was 'guest'",
            [entry("a"), entry("b", properties=USERS[0]), entry("c", properties=USERS[1])],
            3,
        ),
        (
            "PRECONDITION_FAILED - invalid expiration '99999999999': {value_too_large,99999999999}",
            [entry("a"), entry("b", properties=TIMES[0]), entry("c", properties=TIMES[1])],
            3,
        ),
        (
            "PRECONDITION_FAILED - message size 60 is larger than configured max size 6",
            [entry("a", body=b"x" * 6), entry("b", body=b"x" * 60)],
            2,
        ),
        ("NOT_FOUND - no exchange 'gone' in vhost '/'", [entry("a", exchange="gone")], 1),
        ("NOT_FOUND - no exchange 'gone' in vhost '/'", [entry("a")], None),
        (
            "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'guest'",
            [entry("a", exchange="e"), entry("b")],
            2,
        ),
        ("NOT_FOUND - no exchange 'gone' in vhost '/'", [entry("a"), entry("b")], None),
        ("something new", [entry("a"), entry("b")], None),
        ("something new", [entry("a")], 1),
        ("something new", [], None),
    ],
)
def test_the_culprit_is_the_only_one_that_the_text_fits_or_the_only_one_there_is(
    text: str, entries: list[Entry], culprit: int | None
) -> None:
    to_blame, last = ledger(*entries).suspects(closed(text))
    assert to_blame == culprit
    assert last == (culprit or len(entries) + 1)


@pytest.mark.covers("T-PUB-07")
def test_what_may_have_come_about_in_between_blames_nobody_but_saves_who_came_after() -> None:
    # The exchange may have been there for the first of the two, and deleted before the second.
    kept = ledger(entry("a"), entry("b", exchange="gone"), entry("c", exchange="gone"), entry("d"))
    assert kept.suspects(closed("NOT_FOUND - no exchange 'gone' in vhost '/'")) == (None, 3)


@pytest.mark.covers("T-PUB-07")
def test_what_is_wrong_with_the_message_itself_was_wrong_from_the_first() -> None:
    kept = ledger(entry("a", body=b"x" * 60), entry("b", body=b"x" * 60))
    text = "PRECONDITION_FAILED - message size 60 is larger than configured max size 6"
    assert kept.suspects(closed(text)) == (1, 1)


@pytest.mark.covers("T-PUB-07")
def test_an_error_of_another_operation_has_no_culprit_here() -> None:
    kept = ledger("a")
    assert kept.suspects(closed("NOT_FOUND - no queue 'x' in vhost '/'", "queue.declare")) == (None, 2)


def test_the_publishes_that_are_left_come_in_their_order() -> None:
    kept = ledger("a", "b", "c")
    kept.settle(2, False)
    assert [(seq, one[0]) for seq, one in kept] == [(1, "a"), (3, "c")]


def test_the_oldest_is_the_lowest_number_that_is_outstanding_or_the_next_one() -> None:
    kept = ledger("a", "b", "c")
    assert kept.oldest == 1
    kept.settle(1, False)
    kept.settle(3, False)
    assert kept.oldest == 2
    kept.settle(2, False)
    assert kept.oldest == 4
