from __future__ import annotations

from txamqpx.protocol.outbox import Outbox


def outbox(most: int = 100) -> tuple[Outbox, list[str]]:
    woken: list[str] = []
    return Outbox(most, lambda: woken.append("woken")), woken


def test_pieces_come_out_in_their_order() -> None:
    box, _ = outbox()
    for piece in (b"a", b"bc", b"d"):
        box.append(piece)
    assert box.size == 4
    assert box.take() == [b"a", b"bc", b"d"]
    assert box.size == 0
    assert box.take() == []


def test_it_wakes_only_when_nothing_waited() -> None:
    box, woken = outbox()
    box.append(b"a")
    box.append(b"b")
    assert len(woken) == 1
    box.take()
    box.append(b"c")
    assert len(woken) == 2


def test_a_piece_is_not_there_yet_when_it_wakes() -> None:
    seen: list[int] = []
    box = Outbox(100, lambda: seen.append(box.appended))
    box.append(b"a")
    assert seen == [0]


def test_what_is_urgent_goes_first_and_between_pieces() -> None:
    box, woken = outbox()
    box.append(b"content")
    box.append_urgent(b"1")
    box.append_urgent(b"2")
    assert box.take() == [b"1", b"2", b"content"]
    assert len(woken) == 1


def test_what_is_urgent_counts_neither_as_waiting_nor_as_taken() -> None:
    box, _ = outbox()
    box.append_urgent(b"1")
    assert box
    assert (box.size, box.appended) == (0, 0)
    box.take()
    assert box.taken == 0
    assert not box


def test_it_is_true_while_anything_waits() -> None:
    box, _ = outbox()
    assert not box
    box.append(b"a")
    assert box
    box.take()
    assert not box


def test_no_more_is_taken_than_it_takes_to_pass_the_limit() -> None:
    box, _ = outbox()
    for piece in (b"aaa", b"bbb", b"ccc", b"ddd"):
        box.append(piece)
    assert box.take(4) == [b"aaa", b"bbb"]
    assert (box.size, box.taken, box.appended) == (6, 2, 4)
    assert box.take(3) == [b"ccc"]
    assert box.take(3) == [b"ddd"]
    assert (box.size, box.taken) == (0, 4)


def test_a_limit_that_is_not_reached_takes_everything() -> None:
    box, _ = outbox()
    box.append(b"aaa")
    box.append(b"bbb")
    assert box.take(6) == [b"aaa", b"bbb"]
    assert box.taken == 2


def test_what_is_urgent_comes_whole_whatever_the_limit() -> None:
    box, _ = outbox()
    box.append(b"aaa")
    box.append(b"bbb")
    box.append_urgent(b"urgent")
    assert box.take(1) == [b"urgent", b"aaa"]


def test_the_counts_tell_what_never_came_near_the_transport() -> None:
    box, _ = outbox()
    box.append(b"a")
    first = box.appended
    box.append(b"b")
    second = box.appended
    box.take(1)
    assert first <= box.taken < second


def test_a_piece_in_parts_is_never_taken_apart() -> None:
    box, _ = outbox()
    box.append((b"aa", b"bb"), 4)
    box.append(b"cc")
    assert box.size == 6
    assert box.take(1) == [b"aa", b"bb"]
    assert (box.size, box.taken, box.appended) == (2, 1, 2)
    assert box.take(1) == [b"cc"]


def test_pieces_in_parts_and_whole_ones_come_out_in_their_order() -> None:
    box, _ = outbox()
    box.append(b"a")
    box.append((b"b", b"c"), 2)
    box.append(b"d")
    assert box.take() == [b"a", b"b", b"c", b"d"]
    assert (box.size, box.taken) == (0, 3)
    box.append(b"e")
    assert box.take(100) == [b"e"]


def test_what_comes_last_is_made_when_the_bytes_are_taken() -> None:
    box, woken = outbox()
    words = [b"1"]
    box.append_last(lambda: b"".join(words))
    assert box
    assert (box.size, len(woken)) == (0, 1)
    box.append_last(lambda: b"more")
    box.append(b"piece")
    words.append(b"2")
    assert box.take() == [b"piece", b"12", b"more"]
    assert not box
    assert box.take() == []


def test_what_comes_last_wakes_nobody_who_is_awake() -> None:
    box, woken = outbox()
    box.append(b"piece")
    box.append_last(lambda: b"")
    assert len(woken) == 1
    assert box.take() == [b"piece"]


def test_what_was_to_come_last_comes_before_what_must_not_overtake_it() -> None:
    box, _ = outbox()
    box.append_last(lambda: b"ack")
    box.gather()
    box.append(b"close")
    assert box.take() == [b"ack", b"close"]


def test_what_was_to_come_last_is_discarded_too() -> None:
    box, _ = outbox()
    box.append_last(lambda: b"ack")
    box.discard()
    assert not box
    assert box.take() == []
