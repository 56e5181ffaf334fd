from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from txamqpx.errors import TopologyError
from txamqpx.spec.amqp0_9_1 import ExchangeBind, QueueBind
from txamqpx.topology import Binding, Exchange, Queue, Topology

# --------------------------------------------------------------------------- bindings


@pytest.mark.covers("P19")
def test_a_binding_to_a_queue() -> None:
    binding = Binding(Exchange.topic("events"), Queue("jobs"), "a.*", {"x": [1]})
    assert binding.method() == QueueBind("jobs", "events", "a.*", arguments={"x": (1,)})
    assert binding == Binding("events", Queue("jobs"), "a.*", {"x": [1]})
    assert binding == Binding.to_queue("events", "jobs", "a.*", {"x": [1]})
    assert binding == Binding("events", "jobs", "a.*", {"x": [1]}, kind="queue")
    assert str(binding) == "binding of queue 'jobs' to exchange 'events'"


@pytest.mark.covers("P20")
def test_a_binding_to_an_exchange() -> None:
    binding = Binding("events", Exchange("inner"), "a")
    assert binding.method() == ExchangeBind("inner", "events", "a", arguments={})
    assert binding == Binding.to_exchange("events", "inner", "a")
    assert binding != Binding.to_queue("events", "inner", "a")
    assert str(binding) == "binding of exchange 'inner' to exchange 'events'"


@pytest.mark.covers("T-REC-06", "S36")
def test_a_binding_is_known_by_all_of_it() -> None:
    base = Binding.to_queue("e", "q", "k", {"x-match": "all", "a": 1})
    others = [
        Binding.to_queue("e2", "q", "k", {"x-match": "all", "a": 1}),
        Binding.to_queue("e", "q2", "k", {"x-match": "all", "a": 1}),
        Binding.to_exchange("e", "q", "k", {"x-match": "all", "a": 1}),
        Binding.to_queue("e", "q", "k2", {"x-match": "all", "a": 1}),
        Binding.to_queue("e", "q", "k", {"x-match": "any", "a": 1}),
        Binding.to_queue("e", "q", "k", {"x-match": "all", "a": True}),
    ]
    assert len({base.key, *(other.key for other in others)}) == 7
    assert len({base, *others}) == 7
    assert Binding.to_queue("e", "q", "k", {"a": 1, "x-match": "all"}).key == base.key


@pytest.mark.covers("T-REC-06")
def test_a_binding_to_a_queue_that_the_broker_names() -> None:
    one, other = Queue.temporary(), Queue.temporary(handle="replies")
    assert Binding("e", one) != Binding("e", other)
    binding = Binding("e", other, "k")
    assert binding.key == ("binding", "queue", "", "replies", "e", "k", {})
    assert binding.method("amq.gen-1") == QueueBind("amq.gen-1", "e", "k", arguments={})
    assert binding.method("amq.gen-2").arguments is binding.arguments
    assert str(binding) == "binding of queue '' (replies) to exchange 'e'"
    assert binding.check((4, 3)) == []
    with pytest.raises(TopologyError, match="the name that the broker gave"):
        binding.method()


def test_the_name_of_a_queue_that_has_one_stays() -> None:
    assert Binding.to_queue("e", "q").method("other") == QueueBind("q", "e", arguments={})


def test_a_binding_is_checked() -> None:
    assert Binding.to_queue("e", "q", arguments={"x-match": "some"}).check() != []
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Binding.to_queue("e", "q").source = "x"  # type: ignore[misc]


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: Binding("e", "q"), "use Binding.to_queue or Binding.to_exchange"),
    (lambda: Binding("e", "q", kind="stream"), "use Binding.to_queue or Binding.to_exchange"),  # type: ignore[arg-type]
    (lambda: Binding("e", Queue("q"), kind="exchange"), "is no exchange"),
    (lambda: Binding.to_exchange("e", Queue("q")), "is no exchange"),  # type: ignore[arg-type]
    (lambda: Binding("e", Exchange("x"), kind="queue"), "is no queue"),
    (lambda: Binding("", Queue("q")), "takes no other bindings"),
    (lambda: Binding.to_exchange("e", ""), "takes no other bindings"),
    (lambda: Binding.to_queue("e", ""), "needs the name of the queue"),
    (lambda: Binding("e", Queue("q"), "ü" * 128), "binding of queue 'q', routing_key: is 256 bytes long"),
    (lambda: Binding(5, Queue("q")), "binding of queue 'q', source: must be str"),  # type: ignore[arg-type]
    (lambda: Binding.to_queue("e", b"q"), "binding, destination: must be str"),  # type: ignore[arg-type]
    (lambda: Binding.to_queue("e", "q", arguments={"x": object()}), "binding of queue 'q', 'x'"),
    (lambda: Topology("jobs"), "not str 'jobs'"),
    (lambda: Topology([Queue("q"), b"x"]), "not bytes b'x'"),
    (lambda: Topology(5), "not int 5"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "part"), WRONG, ids=map(str, range(len(WRONG))))
def test_what_cannot_be(make: Callable[[], object], part: str) -> None:
    with pytest.raises(TopologyError) as caught:
        make()
    assert part in str(caught.value)


# --------------------------------------------------------------------------- topologies


@pytest.mark.covers("T-REC-05")
def test_a_topology_has_an_order() -> None:
    to_queue = Binding.to_queue("outer", "jobs")
    between = Binding.to_exchange("outer", "inner")
    jobs, outer, inner = Queue("jobs"), Exchange("outer"), Exchange("inner")
    topology = Topology(to_queue, [jobs, between], Topology(outer), (inner,))
    assert list(topology) == [outer, inner, jobs, between, to_queue]
    assert topology.exchanges == (outer, inner)
    assert topology.queues == (jobs,)
    assert topology.bindings == (between, to_queue)
    assert len(topology) == 5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a>b b", "ba"),
        ("x a>b y b z", "xbayz"),
        ("a>b b>c c", "cba"),
        ("c a>c b>c", "cab"),
        ("a>missing b", "ab"),
        ("a>a b", "ab"),
        ("a>b b>a", "ba"),
        ("a>b b>c c>a d", "cbad"),
        ("c b a", "cba"),
    ],
)
def test_an_alternate_exchange_comes_before_those_that_have_it(given: str, expected: str) -> None:
    exchanges = []
    for word in given.split():
        name, _, alternate = word.partition(">")
        exchanges.append(Exchange(name, alternate_exchange=alternate or None))
    assert [exchange.name for exchange in Topology(exchanges).exchanges] == list(expected)


def test_what_is_given_twice_counts_once() -> None:
    items = [Queue.quorum("q"), Exchange("e"), Binding.to_queue("e", "q")]
    assert Topology(items, items) == Topology(items)
    assert len(Topology(items, items)) == 3
    assert Topology(items) + Topology(reversed(items)) == Topology(items)


def test_topologies_are_added() -> None:
    both = Topology(Queue("a")) + Queue("b") + Topology(Exchange("e")) + Binding.to_queue("e", "a")
    assert both == Topology(Queue("a"), Queue("b"), Exchange("e"), Binding.to_queue("e", "a"))
    with pytest.raises(TypeError):
        both + "c"  # type: ignore[operator]


def test_topologies_hash_and_compare() -> None:
    one, other = Topology(Queue("a"), Queue("b")), Topology(Queue("b"), Queue("a"))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Topology(Queue("a"))
    assert one != [Queue("a"), Queue("b")]
    assert repr(Topology(Queue("a"))) == f"Topology({Queue('a')!r})"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.queues = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        (Queue("q"), Queue("q", durable=False), "durable"),
        (Queue("q"), Queue.quorum("q"), "arguments"),
        (
            Queue("q", arguments={"x": 1}),
            Queue("q", arguments={"x": True}, auto_delete=True),
            "auto_delete, arguments",
        ),
        (Exchange("q"), Exchange.topic("q"), "type"),
        (Queue.temporary(handle="h"), Queue.temporary(handle="h", expires=5), "arguments"),
    ],
    ids=map(str, range(5)),
)
def test_two_declarations_of_one_name_do_not_agree(one: Any, other: Any, differ: str) -> None:
    for make in (lambda: Topology(one, other), lambda: Topology(other) + one):
        with pytest.raises(TopologyError) as caught:
            make()
        assert f"declared twice, and not alike: {differ} differ" in caught.value.reason
        assert caught.value.parameter == str(one)


def test_a_queue_and_an_exchange_may_share_a_name() -> None:
    assert len(Topology(Queue("x"), Exchange("x"))) == 2


def test_who_only_asks_agrees_with_who_declares() -> None:
    asks, declares = Queue("q", passive=True), Queue.quorum("q")
    assert list(Topology(asks, declares)) == list(Topology(declares, asks)) == [declares]
    assert list(Topology(asks, asks)) == [asks]


def test_a_topology_is_checked_as_a_whole() -> None:
    topology = Topology(Exchange("e", "odd"), Queue("q", durable=False), Binding.to_queue("e", "q"))
    assert len(topology.check()) == 1
    assert len(topology.check((4, 3, 6))) == 2
    with pytest.raises(TopologyError, match="queue 'q'"):
        topology.check((4, 3, 6), allow_deprecated=False)
