"""Who may log in, and what a user may do."""

import pytest

from txamqpx.broker.users import Login, Permissions, Unreadable, Users, read_login
from txamqpx.spec.wire import encode_table


def amqplain(**fields: object) -> bytes:
    return encode_table(fields)[4:]


# --------------------------------------------------------------------------- what a client says


@pytest.mark.parametrize(
    ("mechanism", "response", "expected"),
    [
        ("PLAIN", b"\0guest\0p", Login("guest", b"p")),
        ("PLAIN", "\0ü\0🐇".encode(), Login("ü", "🐇".encode())),
        ("AMQPLAIN", amqplain(LOGIN="guest", PASSWORD="p"), Login("guest", b"p")),
        ("AMQPLAIN", amqplain(LOGIN="guest", PASSWORD=b"\xff"), Login("guest", b"\xff")),
        ("EXTERNAL", b"", Login("orders")),
        ("ANONYMOUS", b"whatever", Login("nobody")),
    ],
)
def test_what_a_client_says(mechanism: str, response: bytes, expected: Login) -> None:
    assert read_login(mechanism, response, "orders", "nobody") == expected


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", b"guest"),
        ("PLAIN", b"other\0guest\0p"),
        ("PLAIN", b"\0\xff\0p"),
        ("AMQPLAIN", b"\x05LOG"),
        ("AMQPLAIN", amqplain(LOGIN="guest")),
        ("AMQPLAIN", amqplain(LOGIN=1, PASSWORD="p")),
        ("EXTERNAL", b""),
        ("ANONYMOUS", b""),
        ("KERBEROS", b""),
    ],
)
def test_what_is_no_login(mechanism: str, response: bytes) -> None:
    with pytest.raises(Unreadable):
        read_login(mechanism, response, None, "")


# --------------------------------------------------------------------------- who it is


def test_passwords() -> None:
    users = Users({"guest": "p"})
    users.add("orders", None, ["monitoring"])
    users.add("empty", "")
    guest = users["guest"]
    assert users.log_in(Login("guest", b"p")) is guest
    assert users.log_in(Login("guest", b"q")) is None
    assert users.log_in(Login("other", b"p")) is None
    assert users.log_in(Login("orders")) is users["orders"]
    for password in (b"", b"None", b"p"):
        assert users.log_in(Login("orders", password)) is None
        assert users.log_in(Login("empty", password)) is None
    assert users["orders"].tags == {"monitoring"}
    users.set_password("guest", "new")
    assert users.log_in(Login("guest", b"p")) is None
    assert users.log_in(Login("guest", b"new")) is guest
    users.set_password("guest", None)
    assert users.log_in(Login("guest", b"new")) is None


def test_nothing_shows_a_password() -> None:
    users = Users({"guest": "c4n4ry"})
    for shown in (repr(users["guest"]), repr(Login("guest", b"c4n4ry"))):
        assert "guest" in shown
        assert "c4n4ry" not in shown


def test_users_come_and_go() -> None:
    users = Users()
    assert list(users) == []
    users.add("a", "p")
    with pytest.raises(ValueError, match="there is a user 'a' already"):
        users.add("a", "q")
    assert list(users) == ["a"]
    assert "a" in users
    users.delete("a")
    assert "a" not in users
    for call in (users.delete, users.__getitem__):
        with pytest.raises(KeyError):
            call("a")


# --------------------------------------------------------------------------- what a user may do


def test_who_is_there_from_the_beginning_may_do_everything() -> None:
    guest = Users({"guest": "p"})["guest"]
    assert guest.may_enter("anywhere")
    for right in ("configure", "write", "read"):
        assert guest.may("anywhere", right, "anything")


def test_who_is_added_may_do_nothing() -> None:
    users = Users()
    clerk = users.add("clerk", "p")
    assert not clerk.may_enter("/")
    assert not clerk.may("/", "read", "q")
    before = users.version
    users.set_permissions("clerk", "/", Permissions.of("", "^orders$|amq\\.default", "in"))
    assert users.version > before
    assert clerk.may_enter("/")
    assert not clerk.may_enter("other")
    assert not clerk.may("/", "configure", "")
    assert not clerk.may("/", "configure", "x")
    assert clerk.may("/", "write", "orders")
    assert clerk.may("/", "write", "")
    assert not clerk.may("/", "write", "orders2")
    assert clerk.may("/", "read", "inbox")
    assert clerk.may("/", "read", "main")
    users.set_permissions("clerk", "/", None)
    assert not clerk.may_enter("/")


def test_what_is_said_of_one_virtual_host_holds_there_alone() -> None:
    users = Users({"guest": "p"})
    users.set_permissions("guest", "strict", Permissions.of("", "", ""))
    assert users["guest"].may_enter("strict")
    assert not users["guest"].may("strict", "read", "q")
    assert users["guest"].may("other", "read", "q")


def test_topics() -> None:
    users = Users({"guest": "p"})
    guest = users["guest"]
    assert guest.may_use_topic("/", "news", "write", "x")
    users.set_topic_permissions("guest", "/", "news", write="^de\\.", read="")
    assert guest.may_use_topic("/", "news", "write", "de.berlin")
    assert not guest.may_use_topic("/", "news", "write", "fr")
    assert not guest.may_use_topic("/", "news", "read", "de.berlin")
    assert guest.may_use_topic("/", "other", "read", "x")


def test_what_is_no_expression() -> None:
    with pytest.raises(ValueError, match=r"'\(' is no regular expression"):
        Permissions.of(".*", "(", ".*")
