"""How many connections there may be."""

import pytest

from txamqpx.broker.limits import Limits
from txamqpx.broker.refusal import Refusal


def test_without_limits_everybody_is_let_in() -> None:
    limits = Limits()
    for _ in range(1000):
        limits.admit("guest", "/")
        limits.count("guest", "/", 1)


def test_a_virtual_host_that_is_full() -> None:
    limits = Limits()
    limits.vhost_connections["v"] = 1
    limits.admit("guest", "v")
    limits.count("guest", "v", 1)
    with pytest.raises(
        Refusal, match=r"NOT_ALLOWED - access to vhost 'v' refused for user 'guest': connection "
    ):
        limits.admit("guest", "v")
    limits.admit("guest", "/")
    limits.count("guest", "v", -1)
    limits.admit("guest", "v")


def test_a_user_who_has_enough() -> None:
    limits = Limits()
    limits.user_connections["guest"] = 0
    with pytest.raises(Refusal, match=r"user 'guest': user connection limit \(0\) is reached") as caught:
        limits.admit("guest", "/")
    assert (caught.value.code, caught.value.hard) == (530, True)
    limits.admit("other", "/")
