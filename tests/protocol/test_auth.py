from __future__ import annotations

import pytest

from tests.protocol.pair import amqplain
from txamqpx.errors import AuthenticationError
from txamqpx.protocol.auth import MECHANISMS, AMQPlain, External, Mechanism, Plain, make_mechanism
from txamqpx.spec.wire import decode_table


def test_plain_separates_name_and_password_by_nul() -> None:
    assert Plain("gust", "geheim").initial_response() == b"\0gust\0geheim"


def test_plain_speaks_utf_8() -> None:
    assert Plain("gäst", "contraseña").initial_response() == "\0gäst\0contraseña".encode()


def test_amqplain_is_a_table_without_its_length() -> None:
    response = AMQPlain("guest", "secret").initial_response()
    assert response == b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x06secret"
    assert response == amqplain(LOGIN="guest", PASSWORD="secret")
    table, _ = decode_table(len(response).to_bytes(4, "big") + response, 0)
    assert table == {"LOGIN": "guest", "PASSWORD": "secret"}


def test_external_leaves_it_to_the_transport() -> None:
    assert External().initial_response() == b""


@pytest.mark.parametrize("name", MECHANISMS)
def test_no_mechanism_knows_challenges(name: str) -> None:
    mechanism = make_mechanism(name, "guest", "secret")
    with pytest.raises(AuthenticationError, match=f"{name} knows none") as caught:
        mechanism.respond(b"who goes there?")
    assert not caught.value.by_peer


@pytest.mark.covers("T-HS-04")
@pytest.mark.parametrize("name", MECHANISMS)
def test_a_mechanism_is_made_afresh_each_time(name: str) -> None:
    first, second = (make_mechanism(name, "guest", "secret") for _ in range(2))
    assert first is not second
    assert first.name == second.name == name


@pytest.mark.covers("T-HS-06")
@pytest.mark.parametrize("name", MECHANISMS)
def test_no_repr_shows_the_credentials(name: str) -> None:
    assert repr(make_mechanism(name, "guest", "canary")) == f"<{name}>"


def test_an_unknown_mechanism_is_refused_by_name() -> None:
    with pytest.raises(
        AuthenticationError, match="unknown mechanism 'GSSAPI'; there are PLAIN, AMQPLAIN, EXTERNAL"
    ):
        make_mechanism("GSSAPI", "guest", "secret")


def test_a_mechanism_of_ones_own_may_say_nothing_at_first() -> None:
    class Silent(Mechanism):
        name = "SILENT"

    assert Silent().initial_response() == b""
