"""What RabbitMQ says word for word, of the embedded broker without a wire; and some more of what it does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.broker.yard import PROFILES, House
from tests.declaring_cases import CASES
from tests.refusals import HARD, TAKEN, Case, exchange, queue
from tests.rights import FURNITURE, NEEDS
from txamqpx.broker.channel import BrokerChannel
from txamqpx.broker.declaring import DECLARING
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.users import Permissions, User
from txamqpx.broker.vhost import VirtualHost
from txamqpx.spec.amqp0_9_1 import (
    BasicGet,
    ExchangeBind,
    ExchangeDelete,
    ExchangeUnbind,
    QueueBind,
    QueueDeclareOk,
    QueueDelete,
    QueueDeleteOk,
    QueuePurge,
    QueuePurgeOk,
    QueueUnbind,
)
from txamqpx.spec.base import Request


class Guest:
    """A session of a user who may do everything."""

    user = "guest"

    def __init__(self) -> None:
        self.account = User("guest", None, everywhere=True)

    def limit(self, configure: str = "", write: str = "", read: str = "") -> None:
        """Leave the user those rights."""
        self.account.permissions["/"] = Permissions.of(configure, write, read)


class Asking:
    """A channel that has no connection, but a virtual host of its own."""

    def __init__(self, profile: str) -> None:
        self.vhost = VirtualHost("/", House(profile))
        self.session = Guest()
        self.last_queue = ""
        self.demanded: list[str] = []

    def ask(self, request: Request[Any]) -> Any:
        """Do what a request asks."""
        if isinstance(request, BasicGet):
            return self.vhost.queue(self.queue_name(request.queue), self.session)
        return DECLARING[request.index](self, request)  # type: ignore[arg-type]

    def queue_name(self, name: str) -> str:
        return BrokerChannel.queue_name(self, name)  # type: ignore[arg-type]

    def demand(self, right: str, kind: str, name: str) -> None:
        self.demanded.append(f"{right} {kind} {name}")
        BrokerChannel.demand(self, right, kind, name)  # type: ignore[arg-type]

    def denial(self, right: str, what: str) -> Refusal:
        return BrokerChannel.denial(self, right, what)  # type: ignore[arg-type]


def disagreement(case: Case, profile: str) -> str | None:
    asking = Asking(profile)
    for request in case.before:
        asking.ask(request)
    answer = case.answer(is_old=profile == PROFILES[0])
    try:
        found = asking.ask(case.request)
    except Refusal as refusal:
        # It is the channel that cuts what is too long.
        expected = (answer.code, answer.code in HARD)
        whole = "" if answer is TAKEN else answer.reply_text("/")
        said = refusal.text if len(refusal.text) <= 255 else f"{refusal.text[:252]}..."
        agreed = (refusal.code, refusal.hard) == expected and said == whole
        return None if agreed else f"{case.request}: {refusal.text} {answer}"
    return None if answer is TAKEN else f"{case.request}: {found} {answer}"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("group", CASES)
def test_word_for_word(group: str, profile: str) -> None:
    assert [*filter(None, (disagreement(case, profile) for case in CASES[group]))] == []


def test_what_is_answered() -> None:
    asking = Asking(PROFILES[1])
    assert asking.ask(queue("jobs")) == QueueDeclareOk("jobs", 0, 0)
    assert asking.last_queue == "jobs"
    assert asking.ask(QueuePurge("")) == QueuePurgeOk(0)
    assert asking.ask(QueueDelete("")) == QueueDeleteOk(0)
    named = asking.ask(queue("", exclusive=True)).queue
    assert named == asking.last_queue
    assert named.startswith("amq.gen-")
    assert [*asking.vhost.queues] == [named]


def test_a_declare_renews_the_lease_of_a_queue_that_is_there() -> None:
    asking = Asking(PROFILES[1])
    clock = asking.vhost.broker.clock
    for passive in (False, False, True, True):
        asking.ask(queue("jobs", expires=1000, passive=passive))
        clock.advance(0.9)  # type: ignore[attr-defined]
    assert "jobs" in asking.vhost.queues
    clock.advance(0.2)  # type: ignore[attr-defined]
    assert "jobs" not in asking.vhost.queues


def test_bindings_come_and_go() -> None:
    asking = Asking(PROFILES[1])
    asking.ask(queue("jobs"))
    asking.ask(exchange("inner"))
    for bind, unbind in (
        (QueueBind("jobs", "amq.topic", "k"), QueueUnbind("jobs", "amq.topic", "k")),
        (QueueBind("", "amq.topic", ""), QueueUnbind("jobs", "amq.topic", "jobs")),
        (QueueBind("jobs", "amq.topic", ""), QueueUnbind("\njobs", "amq.topic\n", "")),
        (ExchangeBind("inner", "amq.topic", "k"), ExchangeUnbind("inner", "amq.topic", "k")),
    ):
        asking.ask(bind)
        assert len([*asking.vhost.exchanges["amq.topic"].bindings()]) == 1
        asking.ask(unbind)
        assert [*asking.vhost.exchanges["amq.topic"].bindings()] == []
    asking.ask(ExchangeDelete("inner"))
    assert "inner" not in asking.vhost.exchanges


# --------------------------------------------------------------------------- rights


@pytest.mark.parametrize(("request_", "rights"), [need for need in NEEDS if need[0].index in DECLARING])
def test_each_right_is_asked_for_in_its_turn(request_: Request[Any], rights: list[str]) -> None:
    asking = Asking(PROFILES[1])
    for request in FURNITURE:
        asking.ask(request)
    asking.demanded.clear()
    asking.ask(request_)
    assert asking.demanded == rights


def denied(asking: Asking, request: Request[Any]) -> str:
    with pytest.raises(Refusal) as caught:
        asking.ask(request)
    assert caught.value.code == 403
    return caught.value.text


def test_to_look_takes_no_right_or_any() -> None:
    for profile in PROFILES:
        asking = Asking(profile)
        asking.ask(queue("jobs"))
        look = (queue("jobs", passive=True), exchange("amq.topic", passive=True))
        for right in ("configure", "write", "read"):
            asking.session.limit(**{right: ".*"})
            for request in look:
                asking.ask(request)
        asking.session.limit()
        for request in look:
            if profile == PROFILES[0]:
                asking.ask(request)
            else:
                assert "ACCESS_REFUSED - configure access to" in denied(asking, request)


def test_to_bind_to_a_topic_exchange_may_take_a_right_to_the_key() -> None:
    asking = Asking(PROFILES[1])
    asking.ask(queue("jobs"))
    asking.session.account.topics["/", "amq.topic"] = Permissions.of("", "", "^mine\\.")
    asking.ask(QueueBind("jobs", "amq.topic", "mine.a"))
    asking.ask(QueueBind("jobs", "amq.direct", "yours.a"))
    for request in (
        QueueBind("jobs", "amq.topic", "yours.a"),
        QueueUnbind("jobs", "amq.topic", "yours.a"),
        ExchangeBind("amq.fanout", "amq.topic", "yours.a"),
    ):
        told = "ACCESS_REFUSED - read access to topic 'yours.a' in exchange 'amq.topic' in vhost '/' refused"
        assert denied(asking, request) == f"{told} for user 'guest'"
