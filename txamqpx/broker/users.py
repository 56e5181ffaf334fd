"""Users, their passwords, and what they may do, as RabbitMQ's own database keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from hmac import compare_digest

from attrs import define, field, frozen

from txamqpx.errors import DecodeError
from txamqpx.spec.wire import decode_table

__all__ = ["Login", "Permissions", "Unreadable", "User", "Users", "read_login"]

#: What a permission calls the exchange without a name.
DEFAULT_EXCHANGE = "amq.default"


class Unreadable(ValueError):
    """A response that does not have the form of its mechanism: RabbitMQ hangs up on such a client."""


@frozen
class Login:
    """Who a client says that it is."""

    name: str
    #: None: the transport has proved it already.
    password: bytes | None = field(default=None, repr=False)


def read_login(mechanism: str, response: bytes, certified: str | None, anonymous: str) -> Login:
    """Return what a client says in ``connection.start-ok``.

    Args:
        mechanism: How it logs in.
        response: What it says.
        certified: The common name in its certificate, if the transport asked for one.
        anonymous: Who somebody without a name is.

    Raises:
        Unreadable: The mechanism is unknown, or the response is none of it.
    """
    if mechanism == "PLAIN":
        parts = response.split(b"\0")
        if len(parts) != 3 or parts[0]:
            raise Unreadable("a PLAIN response is NUL, a name, NUL and a password")
        return Login(_text(parts[1]), parts[2])
    if mechanism == "AMQPLAIN":
        try:
            table, _ = decode_table(len(response).to_bytes(4) + response, 0)
        except DecodeError as error:
            raise Unreadable(str(error)) from error
        name, password = table.get("LOGIN"), table.get("PASSWORD")
        if not isinstance(name, str) or not isinstance(password, str | bytes):
            raise Unreadable("an AMQPLAIN response has a LOGIN and a PASSWORD")
        return Login(name, password.encode() if isinstance(password, str) else password)
    if mechanism == "EXTERNAL" and certified is not None:
        return Login(certified)
    if mechanism == "ANONYMOUS" and anonymous:
        return Login(anonymous)
    raise Unreadable(f"there is no mechanism {mechanism!r}")


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Unreadable("a name is not UTF-8") from error


@frozen
class Permissions:
    """What a user may do in one virtual host: expressions that are searched for in names.

    An empty one matches nothing.
    """

    configure: re.Pattern[str]
    write: re.Pattern[str]
    read: re.Pattern[str]

    @classmethod
    def of(cls, configure: str, write: str, read: str) -> Permissions:
        """Compile them.

        Raises:
            ValueError: One is no regular expression.
        """
        compiled = []
        for expression in (configure, write, read):
            try:
                compiled.append(re.compile(expression or r"(?!)"))
            except re.error as error:
                raise ValueError(f"{expression!r} is no regular expression: {error}") from None
        return cls(*compiled)

    def allow(self, kind: str, name: str) -> bool:
        """Return whether ``kind``, which is configure, write or read, is allowed with a name."""
        pattern: re.Pattern[str] = getattr(self, kind)
        return pattern.search(name or DEFAULT_EXCHANGE) is not None


_ALL = Permissions.of(".*", ".*", ".*")


@define(eq=False)
class User:
    """One user.

    Attributes:
        name: The name.
        password: None: there is none that would do, but a certificate may.
        tags: Such as ``administrator``; they mean nothing to AMQP.
        everywhere: Whether the user may do everything in virtual hosts of which nothing else is said.
        permissions: By virtual host; None: not even enter.
        topics: By virtual host and exchange, which routing keys may be written to and read from.
    """

    name: str
    password: bytes | None = field(repr=False)
    tags: frozenset[str] = frozenset()
    everywhere: bool = False
    permissions: dict[str, Permissions | None] = field(factory=dict, repr=False)
    topics: dict[tuple[str, str], Permissions] = field(factory=dict, repr=False)

    def may_enter(self, vhost: str) -> bool:
        """Return whether the user may open a virtual host."""
        return self._in(vhost) is not None

    def may(self, vhost: str, kind: str, name: str) -> bool:
        """Return whether the user may do something with a queue or an exchange."""
        permissions = self._in(vhost)
        return permissions is _ALL or (permissions is not None and permissions.allow(kind, name))

    def _in(self, vhost: str) -> Permissions | None:
        return self.permissions.get(vhost, _ALL if self.everywhere else None)

    def may_use_topic(self, vhost: str, exchange: str, kind: str, routing_key: str) -> bool:
        """Return whether a topic exchange may be written to, or read from, with a routing key."""
        permissions = self.topics.get((vhost, exchange))
        if permissions is None:
            return True
        pattern: re.Pattern[str] = getattr(permissions, kind)
        return pattern.search(routing_key) is not None


class Users:
    """All users of a broker.

    Args:
        passwords: Those of the users that there are from the beginning, who may do everything everywhere.
    """

    def __init__(self, passwords: Mapping[str, str] | None = None) -> None:
        self._users: dict[str, User] = {}
        #: Grows with each change: what was found out before it may be wrong.
        self.version = 0
        for name, password in (passwords or {}).items():
            self.add(name, password).everywhere = True

    def __contains__(self, name: object) -> bool:
        return name in self._users

    def __getitem__(self, name: str) -> User:
        """Return a user.

        Raises:
            KeyError: There is none of that name.
        """
        return self._users[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._users)

    def log_in(self, login: Login) -> User | None:
        """Return who has come; None: nobody whom we would know, or not with that password."""
        user = self._users.get(login.name)
        if user is None or login.password is None:
            return user
        if not login.password or user.password is None:
            return None  # RabbitMQ takes no empty password, not even of a user who has one
        return user if compare_digest(user.password, login.password) else None

    def add(self, name: str, password: str | None, tags: Iterable[str] = ()) -> User:
        """Add a user, who may do nothing yet.

        Raises:
            ValueError: There is one of that name.
        """
        if name in self._users:
            raise ValueError(f"there is a user {name!r} already")
        user = User(name, None if password is None else password.encode(), frozenset(tags))
        self._users[name] = user
        self.version += 1
        return user

    def delete(self, name: str) -> None:
        """Delete a user.

        Raises:
            KeyError: There is none of that name.
        """
        del self._users[name]
        self.version += 1

    def set_password(self, name: str, password: str | None) -> None:
        """Give a user another password, or None at all, for the next login.

        Raises:
            KeyError: There is none of that name.
        """
        self._users[name].password = None if password is None else password.encode()

    def set_permissions(self, name: str, vhost: str, permissions: Permissions | None) -> None:
        """Say what a user may do in one virtual host; None: nothing, not even enter.

        Raises:
            KeyError: There is none of that name.
        """
        self._users[name].permissions[vhost] = permissions
        self.version += 1

    def set_topic_permissions(self, name: str, vhost: str, exchange: str, *, write: str, read: str) -> None:
        """Say which routing keys a user may use with a topic exchange; without that, all of them.

        Raises:
            KeyError: There is none of that name.
            ValueError: One is no regular expression.
        """
        self._users[name].topics[vhost, exchange] = Permissions.of("", write, read)
        self.version += 1
