"""Which rights it takes to declare, to bind and to delete, and in which order a broker asks for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.brokers_plugin import Vhost
from tests.integration.support import Connector, Inbox, failure_of, is_since, soon
from tests.refusals import exchange, queue
from tests.rights import FURNITURE, NEEDS
from txamqpx.channel import Channel
from txamqpx.errors import AccessRefused
from txamqpx.spec.amqp0_9_1 import (
    BasicConsume,
    BasicGet,
    ExchangeBind,
    ExchangeDelete,
    QueueBind,
)
from txamqpx.spec.base import Request

USER = "limited"

WITHOUT_ANY: list[tuple[Request[Any], int, str]] = [
    (queue("amq.mine"), 403, "reserved prefix"),
    (exchange("", passive=True), 403, "default exchange"),
    (exchange("new", "nonsense"), 0, "unknown exchange type"),
    (ExchangeDelete("amq.topic"), 403, "deletion of system exchange"),
    (ExchangeDelete(""), 403, "default exchange"),
]
"""What is refused before it is asked who asks."""


class Limited:
    """A user with no rights but those that are granted.

    Args:
        connect: Opens connections to the virtual host.
    """

    def __init__(self, connect: Connector) -> None:
        self.connect = connect
        self.grant([])

    def grant(self, rights: list[str]) -> None:
        """Give these rights, and no others."""
        patterns = {}
        for right in ("configure", "write", "read"):
            names = [text.split()[2] for text in rights if text.split()[0] == right]
            patterns[right] = f"^({'|'.join(map(re.escape, names))})$" if names else "^$a"
        vhost = self.connect.vhost
        vhost.node.set_permissions(USER, vhost.name, **patterns)

    async def ask(self, request: Request[Any]) -> Deferred[Any]:
        """Send a request on a connection of its own, for what a user may is kept in mind there."""
        vhost = self.connect.vhost
        protocol = await self.connect(url=vhost.node.url(vhost.name, user=USER, password=USER))
        channel = await protocol.open_channel()
        if isinstance(request, BasicGet):
            return channel.basic_get(request.queue)
        if isinstance(request, BasicConsume):
            return channel.basic_consume(request.queue, Inbox())
        return channel.call(request)

    def denial(self, right: str) -> str:
        """Return what a user is told who lacks a right."""
        what, kind, name = right.split()
        told = f"{what} access" if is_since(self.connect.vhost.node, "4.0") else "access"
        where = f"{kind} '{name}' in vhost '{self.connect.vhost.name}'"
        return f"ACCESS_REFUSED - {told} to {where} refused for user '{USER}'"


@pytest.fixture
def limited(vhost: Vhost, connect: Connector) -> Iterator[Limited]:
    vhost.node.add_user(USER, USER)
    yield Limited(connect)
    vhost.node.delete_user(USER)


async def furnish(channel: Channel) -> None:
    """Declare what is there."""
    for request in FURNITURE:
        await channel.call(request)


@pytest.mark.covers("S57", "S24")
@pytest_twisted.ensureDeferred
async def test_each_right_is_asked_for_in_its_turn(channel: Channel, limited: Limited) -> None:
    for request, rights in NEEDS:
        await furnish(channel)
        for had, right in enumerate(rights):
            limited.grant(rights[:had])
            error = await failure_of(await limited.ask(request), AccessRefused)
            assert error.reply_text == limited.denial(right), request
        limited.grant(rights)
        await soon(await limited.ask(request))
        for name in ("new", "jobs"):
            await channel.queue_delete(name)
        for name in ("new", "x"):
            await channel.exchange_delete(name)


@pytest.mark.covers("S57")
@pytest_twisted.ensureDeferred
async def test_to_look_takes_no_right_or_any(vhost: Vhost, channel: Channel, limited: Limited) -> None:
    await furnish(channel)
    for request, right in (
        (queue("jobs", passive=True), "{} queue jobs"),
        (exchange("x", passive=True), "{} exchange x"),
    ):
        limited.grant([])
        answer = await limited.ask(request)
        if is_since(vhost.node, "4.0"):
            error = await failure_of(answer, AccessRefused)
            assert error.reply_text == limited.denial(right.format("configure"))
        else:
            await soon(answer)
        for one in ("configure", "write", "read"):
            limited.grant([right.format(one)])
            await soon(await limited.ask(request))


@pytest.mark.covers("S57")
@pytest_twisted.ensureDeferred
async def test_what_is_refused_to_everybody_is_refused_first(limited: Limited) -> None:
    for request, code, text in WITHOUT_ANY:
        error = await failure_of(await limited.ask(request))
        assert text in error.reply_text
        assert code in {0, error.reply_code}


@pytest.mark.covers("S57")
@pytest_twisted.ensureDeferred
async def test_nobody_binds_to_the_default_exchange_whatever_the_rights(
    channel: Channel, limited: Limited
) -> None:
    await furnish(channel)
    for request, right in (
        (QueueBind("jobs", "", "k"), "write queue jobs"),
        (ExchangeBind("x", "", "k"), "write exchange x"),
    ):
        limited.grant([])
        error = await failure_of(await limited.ask(request), AccessRefused)
        assert error.reply_text == limited.denial(right)
        limited.grant([right])
        error = await failure_of(await limited.ask(request), AccessRefused)
        assert error.reply_text.endswith("operation not permitted on the default exchange")


@pytest.mark.covers("S57")
@pytest_twisted.ensureDeferred
async def test_the_default_exchange_has_a_name_for_rights(vhost: Vhost, limited: Limited) -> None:
    """A queue whose dead letters go there takes the right to write to it."""
    limited.grant(["configure queue new", "read queue new"])
    error = await failure_of(await limited.ask(queue("new", dead_letter_exchange="")), AccessRefused)
    assert error.reply_text == limited.denial("write exchange amq.default")
    limited.grant(["configure queue new", "read queue new", "write exchange amq.default"])
    await soon(await limited.ask(queue("new", dead_letter_exchange="")))
