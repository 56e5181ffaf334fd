"""Messages that are ready in a quorum queue: `txamqpx.broker.quorum_line`."""

from __future__ import annotations

import pytest

from tests.broker.yard import Yard, bodies
from txamqpx.broker.message import Entry, Message
from txamqpx.broker.quorum_line import QuorumLine
from txamqpx.spec.amqp0_9_1 import BasicProperties

_QUEUE = Yard().queue()


def entry(body: bytes, priority: int | None = None) -> Entry:
    return Entry(Message.made("", "", BasicProperties(priority=priority), body), _QUEUE, 0)


def emptied(line: QuorumLine) -> list[bytes]:
    assert bodies(line) == (found := [line[0].message.body, *[one.message.body for one in line][1:]])
    taken = bodies([line.popleft() for _ in range(len(line))])
    assert taken == found
    return taken


@pytest.mark.parametrize("priorities", [False, True])
def test_what_came_back_is_first_in_the_order_in_which_it_did(priorities: bool) -> None:
    line = QuorumLine(priorities=priorities, weighed=False)
    assert (len(line), [*line]) == (0, [])
    for body in (b"new", b"newer"):
        line.append(entry(body))
    line.restore([entry(b"2", priority=0), entry(b"1", priority=9)])
    line.restore([entry(b"0")])
    assert (len(line), line.weight) == (5, 0)
    assert emptied(line) == [b"2", b"1", b"0", b"new", b"newer"]


def test_priorities_count_up_to_thirty_one() -> None:
    line = QuorumLine(priorities=True, weighed=False)
    for priority in (None, 0, 4, 5, 31, 32, 255):
        line.append(entry(str(priority).encode(), priority))
    assert emptied(line) == [b"31", b"32", b"255", b"5", b"None", b"4", b"0"]


@pytest.mark.parametrize("priorities", [False, True])
def test_bytes_count_wherever_they_are(priorities: bool) -> None:
    line = QuorumLine(priorities=priorities, weighed=True)
    line.append(entry(b"12345"))
    line.restore([entry(b"123"), entry(b"")])
    assert line.weight == 8
    line.popleft()
    assert line.weight == 5
    line.clear()
    assert (line.weight, len(line)) == (0, 0)
