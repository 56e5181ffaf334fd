from __future__ import annotations

import inspect
import re

import pytest

from txamqpx import errors
from txamqpx.errors import (
    AccessRefused,
    AlreadySettled,
    AMQPError,
    AuthenticationError,
    ChannelClosed,
    Closed,
    ConnectError,
    ConnectionClosed,
    ConnectionForced,
    ConnectionLost,
    ConnectionRefused,
    DecodeError,
    EncodeError,
    HandshakeTimeout,
    HostNotFound,
    InvalidParameter,
    LocalProtocolError,
    NoConsumers,
    NoRoute,
    NotFound,
    NotProcessed,
    PreconditionFailed,
    ProbableAuthenticationError,
    ProtocolVersionMismatch,
    RemoteProtocolError,
    ResourceLocked,
    RPCTimeout,
    SpecError,
    Unroutable,
    URLError,
    VhostAccessDenied,
    caused,
    printable,
    twin,
)

CLASSES = [
    value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, BaseException)
]

DIFFERS = (
    "PRECONDITION_FAILED - inequivalent arg '{}' for queue 'q' in vhost '/': received {} but current is {}"
)


def test_everything_that_is_raised_is_in_one_tree_and_exported() -> None:
    assert all(issubclass(kind, AMQPError) for kind in CLASSES)
    assert {kind.__name__ for kind in CLASSES} | {"caused", "printable", "twin"} == set(errors.__all__)


def test_the_tree_in_the_description_is_the_tree() -> None:
    above: list[type[BaseException]] = []
    for line in str(errors.__doc__).splitlines():
        branch = re.match(r"    ([ \u2502]*)[\u251c\u2514]\u2500\u2500 (\w+)", line)
        if branch:
            depth = len(branch[1]) // 4
            kind = vars(errors)[branch[2]]
            above[depth:] = [kind]
            assert issubclass(kind, above[depth - 1] if depth else AMQPError), line
    assert len(above) > 1


@pytest.mark.covers("T-CH-11")
def test_one_code_means_one_thing_on_a_channel_and_another_on_a_connection() -> None:
    assert type(ChannelClosed.from_reply(403, "")) is AccessRefused
    assert type(ConnectionClosed.from_reply(403, "")) is AuthenticationError


@pytest.mark.covers("T-CH-11")
def test_an_unknown_code_gives_the_class_of_its_scope() -> None:
    for scope in (ChannelClosed, ConnectionClosed):
        error = scope.from_reply(999, "new")
        assert type(error) is scope
        assert error.reply_code == 999


def test_no_code_stands_for_two_classes() -> None:
    with pytest.raises(TypeError, match="404 is already NotFound"):
        type("Lost", (ChannelClosed,), {}, code=404)


@pytest.mark.covers("T16")
@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("NOT_FOUND - no queue 'q' in vhost '/'", {"queue": "q", "virtual_host": "/"}),
        ("NOT_FOUND - no exchange 'e e' in vhost 'v'", {"exchange": "e e", "virtual_host": "v"}),
        (
            DIFFERS.format("durable", "'false'", "'true'"),
            {
                "queue": "q",
                "virtual_host": "/",
                "argument": "durable",
                "received": "false",
                "current": "true",
            },
        ),
        (
            DIFFERS.format("x-message-ttl", "none", "the value '5' of type 'signedint'"),
            {
                "queue": "q",
                "virtual_host": "/",
                "argument": "x-message-ttl",
                "received": "none",
                "current": "5",
            },
        ),
        ("a word without facts", {}),
    ],
)
def test_facts_are_read_out_of_the_brokers_words(text: str, facts: dict[str, str]) -> None:
    error = ChannelClosed.from_reply(406, text)
    names = ("queue", "exchange", "virtual_host", "argument", "received", "current")
    assert {name: getattr(error, name) for name in names if getattr(error, name) is not None} == facts


def test_a_close_says_what_was_said_and_during_what() -> None:
    error = NotFound("NOT_FOUND - gone", class_id=50, method_id=20, operation="queue.bind")
    assert str(error) == "404 NOT_FOUND - gone (while handling queue.bind)"
    assert (error.class_id, error.method_id, error.by_peer) == (50, 20, True)
    assert str(ConnectionLost("gone")) == "gone"
    assert str(ConnectionForced("")) == "320"
    assert str(ConnectionClosed(reply_code=200, by_peer=False)) == "200 closed by us"
    assert str(NotProcessed()) == ""
    assert str(ConnectionLost(operation="basic.get")) == "ConnectionLost (while handling basic.get)"


def test_control_characters_of_a_peer_cannot_forge_a_log_line() -> None:
    forged = "one\r\ntwo\x1b[2J\x85\u2028three"
    said = (
        ChannelClosed.from_reply(404, forged),
        Unroutable.from_return(312, forged, "", ""),
        ConnectError("h:1", forged),
    )
    for error in said:
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", str(error))
    assert printable("a\nb") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.covers("T-CH-12")
@pytest.mark.parametrize(
    "error",
    [
        caused(NotFound("no queue 'q'", class_id=50, method_id=10, operation="queue.declare"), ValueError()),
        VhostAccessDenied("no", reply_code=530, by_peer=False),
        RPCTimeout("queue.declare", 5.0, "memory"),
        HandshakeTimeout(3),
        ConnectionRefused("h:1", "nothing listens"),
        ProtocolVersionMismatch(b"AMQP\x01\x01\x00\x09"),
        EncodeError("too long", "queue.declare queue"),
        Unroutable.from_return(312, "NO_ROUTE", "e", "k", object()),
        LocalProtocolError("no", operation="x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_twin_is_equal_and_another(error: AMQPError) -> None:
    other = twin(error)
    assert type(other) is type(error)
    assert other is not error
    assert (str(other), repr(other), vars(other)) == (str(error), repr(error), vars(error))
    assert other.__cause__ is error.__cause__


def test_a_copy_is_a_twin() -> None:
    error = NotFound("no queue 'q'", operation="queue.declare")
    assert error.copy() is not error
    assert vars(error.copy()) == vars(error)


@pytest.mark.covers("T-HS-03")
def test_a_version_that_does_not_fit_is_named() -> None:
    error = ProtocolVersionMismatch(b"AMQP\x00\x00\x09\x01")
    assert "it offers AMQP 0.0.9.1" in str(error)
    assert error.server == b"AMQP\x00\x00\x09\x01"


@pytest.mark.covers("T-BLK-02")
def test_a_timeout_says_what_for_how_long_and_why() -> None:
    assert str(RPCTimeout("queue.declare", 2.5)) == "no answer to queue.declare within 2.5 s"
    blocked = RPCTimeout("queue.declare", 600.0, "low on memory")
    assert str(blocked) == (
        "no answer to queue.declare within 600 s; the broker has blocked the connection: low on memory"
    )
    assert str(RPCTimeout("x", 1, "")).endswith("blocked the connection: ")
    assert str(HandshakeTimeout(30.0)) == "the connection was not open within 30 s"
    assert str(errors.WaitTimeout("publish", 0.5)) == "publish did not end within 0.5 s"


def test_what_became_of_a_call_is_said() -> None:
    assert str(errors.CallTimeout("a call to 'q'", 5.0, sent=True)) == "no answer to a call to 'q' within 5 s"
    unsent = errors.CallTimeout("a call to 'q'", 5.0, "memory", sent=False)
    assert str(unsent).endswith("blocked the connection: memory; it was not sent")
    assert (unsent.sent, twin(unsent).sent) == (False, False)
    remote = errors.RemoteError("Value\nError", "two\nlines")
    assert str(remote) == "Value\N{REPLACEMENT CHARACTER}Error: two\N{REPLACEMENT CHARACTER}lines"
    assert str(errors.RemoteError("KeyError")) == "KeyError"


def test_unroutable_says_where_it_was_meant_to_go() -> None:
    error = Unroutable.from_return(312, "NO_ROUTE", "e", "k", "message")
    assert type(error) is NoRoute
    assert str(error) == "312 NO_ROUTE: no queue is bound to exchange 'e' with routing key 'k'"
    assert error.message == "message"
    assert type(Unroutable.from_return(313, "", "", "")) is NoConsumers
    assert type(Unroutable.from_return(399, "", "", "")) is Unroutable


def test_settings_and_values_name_the_place() -> None:
    assert str(InvalidParameter("heartbeat", "must be whole")) == "heartbeat: must be whole"
    assert str(URLError("port", "must be a number")) == "the URL's port: must be a number"
    assert str(EncodeError("is too long", "basic.publish routing_key")) == (
        "basic.publish routing_key: is too long"
    )
    assert str(EncodeError("is too long")) == "is too long"
    assert str(SpecError("twice", source="a.xml", where="queue.declare")) == "a.xml: queue.declare: twice"
    assert str(HostNotFound("h:1", "no address")) == "no connection to h:1: no address"


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (RPCTimeout, TimeoutError),
        (HandshakeTimeout, TimeoutError),
        (errors.WaitTimeout, TimeoutError),
        (errors.WrongThread, RuntimeError),
        (errors.ForkedProcess, RuntimeError),
        (errors.ReactorStopped, RuntimeError),
        (ConnectError, ConnectionError),
        (ConnectionRefused, ConnectionRefusedError),
        (EncodeError, ValueError),
        (DecodeError, ValueError),
        (SpecError, ValueError),
        (InvalidParameter, ValueError),
    ],
)
def test_what_python_has_a_word_for_is_that_as_well(kind: type[AMQPError], builtin: type) -> None:
    assert issubclass(kind, builtin)


@pytest.mark.parametrize(
    ("kind", "retryable"),
    [
        (ConnectionLost, True),
        (ProbableAuthenticationError, False),
        (AuthenticationError, False),
        (ConnectionForced, True),
        (NotFound, False),
        (NotProcessed, True),
        (ResourceLocked, True),
        (PreconditionFailed, False),
        (errors.NotPublished, True),
        (errors.OutcomeUnknown, False),
        (errors.OutboxFull, True),
        (errors.Nacked, True),
        (errors.HostNotFound, True),
        (errors.TLSVerificationError, False),
        (HandshakeTimeout, True),
        (RemoteProtocolError, False),
    ],
)
def test_it_says_whether_the_same_may_succeed_later(kind: type[AMQPError], retryable: bool) -> None:
    assert kind.retryable is retryable


def test_a_breach_of_the_protocol_has_a_code_and_an_operation() -> None:
    error = RemoteProtocolError("why", reply_code=505, operation="basic.deliver")
    assert (str(error), error.reply_code, error.operation) == ("why", 505, "basic.deliver")
    assert AlreadySettled("x").reply_code == 503
    assert AlreadySettled("x").operation == ""


def test_a_cause_is_set_without_raising() -> None:
    cause = ValueError()
    error = caused(ConnectionLost(), cause)
    assert error.__cause__ is cause
    assert error.__traceback__ is None
    assert issubclass(Closed, AMQPError)


def test_a_repr_names_the_class() -> None:
    assert repr(NotFound("no queue 'q'")) == "NotFound(\"no queue 'q'\")"


def test_a_program_may_exit_with_an_error() -> None:
    # The interpreter looks for an attribute of that name, and would take it for the exit status.
    assert not hasattr(ConnectionForced("shutdown"), "code")
    assert not hasattr(NoRoute(), "code")


def test_who_is_not_let_in_is_told_what_to_correct() -> None:
    refused = ConnectionClosed.from_reply(403, "ACCESS_REFUSED - Login was refused.")
    assert str(refused).endswith("Login was refused; correct the user name, the password or the mechanism")
    nameless = str(VhostAccessDenied("NOT_ALLOWED - vhost  not found"))
    assert "vhost  not found; correct its name (with a slash at the end of the URL it is empty)" in nameless
