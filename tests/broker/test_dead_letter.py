"""How dead letters are made, and find their way: `txamqpx.broker.dead_letter`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.broker.yard import PROFILES, Yard, bodies, take
from txamqpx.broker.message import Death, Message
from txamqpx.broker.queue import Queue


def dead(yard: Yard) -> Queue:
    return yard.queue("dead")


def grave(**more: Any) -> dict[str, Any]:
    return {"dead_letter_exchange": "", "dead_letter_routing_key": "dead", **more}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_letter_is_the_message_with_its_death(profile: str) -> None:
    yard = Yard(profile)
    grounds, jobs = dead(yard), yard.queue("jobs", **grave())
    yard.clock.advance(86400.9)
    yard.publish(
        jobs, b"body", expiration="0060000", message_id="m", headers={"z": 1, "CC": ["c"], "BCC": ["b"]}
    )
    held = take(jobs)
    jobs.reject(held)
    letter = take(grounds).message
    new = profile == "rabbitmq-4.3"
    assert letter.body is held.message.body
    assert (letter.exchange, letter.routing_key, letter.ttl) == ("", "dead", None)
    assert [*letter.keys] == ["dead"]
    assert (letter.properties.expiration, letter.properties.message_id) == (None, "m")
    ((told),) = letter.headers["x-death"]
    assert told["original-expiration"] == ("60000" if new else "0060000")
    assert (told["routing-keys"], told["time"].timestamp()) == (["jobs", "c"], 86400)
    assert ("CC" in letter.headers) is new
    assert ("x-last-death-queue" in letter.headers) is new
    assert letter.deaths == ((Death("jobs", "rejected", 1, 86400, "", ("jobs", "c"), 60000),) if new else ())
    assert letter.attempts == new


def test_without_a_key_of_the_queue_a_letter_goes_where_the_message_and_its_copies_went() -> None:
    yard = Yard()
    yard.fanouts["graves"] = ["dead"]
    grounds, jobs = dead(yard), yard.queue("jobs", dead_letter_exchange="graves")
    yard.publish(jobs, headers={"CC": ["c"], "BCC": ["b"]})
    jobs.reject(take(jobs))
    letter = take(grounds).message
    assert (letter.exchange, [*letter.keys]) == ("graves", ["jobs", "c", "b"])
    assert letter.headers["x-death"][0]["routing-keys"] == ["jobs", "c"]


def test_attempts_add_up_from_queue_to_queue() -> None:
    yard = Yard()
    grounds = dead(yard)
    second = yard.queue("second", **grave())
    first = yard.queue("first", **grave(dead_letter_routing_key="second"))
    yard.publish(first)
    first.reject(take(first))
    second.reject(take(second))
    letter = take(grounds)
    assert (letter.message.attempts, letter.redelivered) == (2, True)


def test_a_letter_for_nobody_is_lost() -> None:
    yard = Yard()
    jobs = yard.queue("jobs", **grave())
    yard.publish(jobs)
    jobs.reject(take(jobs))
    assert yard.queues == {"jobs": jobs}
    assert bodies(jobs.ready) == []


@pytest.mark.parametrize("profile", PROFILES)
def test_a_circle_is_broken_where_it_closes(profile: str) -> None:
    yard = Yard(profile)
    yard.fanouts["graves"] = ["one", "dead"]
    grounds = dead(yard)
    one = yard.queue("one", dead_letter_exchange="", dead_letter_routing_key="two", message_ttl=1000)
    two = yard.queue("two", dead_letter_exchange="graves", message_ttl=1000)
    yard.publish(one, b"round")
    yard.clock.advance(1)
    assert (bodies(one.ready), bodies(two.ready)) == ([], [b"round"])
    yard.clock.advance(1)
    assert (bodies(one.ready), bodies(two.ready), bodies(grounds.ready)) == ([], [], [b"round"])


def test_a_client_that_refuses_may_go_round_for_ever() -> None:
    yard = Yard()
    jobs = yard.queue("jobs", dead_letter_exchange="")
    yard.publish(jobs)
    for count in range(1, 5):
        jobs.reject(take(jobs))
        assert jobs.ready[0].message.headers["x-death"][0]["count"] == count


def test_one_death_after_the_other_and_not_one_in_the_other() -> None:
    yard = Yard()
    last = dead(yard)
    names = [*(f"q{number}" for number in range(250)), "dead"]
    for name, following in pairwise(names):
        yard.queue(name, dead_letter_exchange="", dead_letter_routing_key=following, max_length=0)
    yard.publish(yard.queues["q0"], b"far")
    assert len(take(last).message.deaths) == 250


def test_letters_wait_until_their_message_is_everywhere() -> None:
    yard = Yard()
    grounds = dead(yard)
    none = yard.queue("none", **grave(max_length=0))
    with yard.burials:
        with yard.burials:
            yard.publish(none, b"first")
        yard.publish(grounds, b"second")
    assert bodies(grounds.ready) == [b"second", b"first"]


def test_a_death_in_the_way_of_another_does_not_end_the_burials() -> None:
    class Broken(Yard):
        def _route(self, letter: Message) -> list[Queue]:
            raise ZeroDivisionError

    yard = Broken()
    jobs = yard.queue("jobs", **grave())
    for _ in range(2):
        yard.publish(jobs)
        with pytest.raises(ZeroDivisionError):
            jobs.reject(take(jobs))
