"""Who is called what."""

import gc

import pytest
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock

from txamqpx.broker.clock import BrokerClock
from txamqpx.broker.names import Names, names


class Thing:
    def __init__(self) -> None:
        self.clock = BrokerClock(Clock())

    def buildProtocol(self, addr: IAddress | None) -> None:
        return None


def test_a_name_is_found_until_it_is_given_back() -> None:
    names, thing = Names(), Thing()
    assert names.find("a") is None
    assert names.add(thing, "a") == "a"
    assert names.find("a") is thing
    names.remove(thing, "a")
    assert names.find("a") is None
    names.add(Thing(), "a")


def test_a_name_is_given_once() -> None:
    names = Names()
    names.add(Thing(), "a")
    with pytest.raises(ValueError, match="there is a broker called 'a'"):
        names.add(Thing(), "a")


def test_only_its_owner_gives_a_name_back() -> None:
    names, thing = Names(), Thing()
    names.add(thing, "a")
    names.remove(Thing(), "a")
    assert names.find("a") is thing


def test_who_has_no_name_gets_one_that_nobody_has() -> None:
    names, first, second = Names(), Thing(), Thing()
    names.add(Thing(), "broker-2")
    assert [names.add(first), names.add(second)] == ["broker-1", "broker-3"]
    assert names.find("broker-1") is first
    names.remove(first, "broker-1")
    assert names.find("broker-1") is None


def test_a_given_name_is_kept_and_one_that_was_made_up_is_not() -> None:
    names = Names()
    names.add(Thing(), "a")
    made_up = names.add(Thing())
    gc.collect()
    assert names.find("a") is not None
    assert names.find(made_up) is None


def test_a_name_that_was_made_up_is_over_with_its_broker() -> None:
    names, thing = Names(), Thing()
    assert not names.is_over("broker-1")
    made_up = names.add(thing)
    assert not names.is_over(made_up)
    names.remove(thing, made_up)
    assert names.is_over(made_up)
    assert not any(names.is_over(name) for name in ("broker-2", "broker-0", "broker-", "broker-x", "a"))


def test_there_is_one_registry_for_the_process() -> None:
    assert type(names) is Names
