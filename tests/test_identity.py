from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError

import pytest

from txamqpx import identity
from txamqpx.identity import client_properties
from txamqpx.params import ConnectionParameters


@pytest.mark.covers("T-HS-08", "T-HS-05")
def test_what_the_broker_is_told_of_us(monkeypatch: pytest.MonkeyPatch) -> None:
    told = client_properties(ConnectionParameters(client_properties={"capabilities": {"mine": True}}))
    assert told["product"] == "txamqpx"
    assert told["platform"] == f"{platform.python_implementation()} {platform.python_version()}"
    assert "connection_name" not in told
    assert told["capabilities"] == {
        "authentication_failure_close": True,
        "basic.nack": True,
        "connection.blocked": True,
        "consumer_cancel_notify": True,
        "exchange_exchange_bindings": True,
        "publisher_confirms": True,
        "mine": True,
    }
    assert told["version"] not in ("", "unknown")

    def not_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(identity, "version", not_installed)
    identity._release.cache_clear()
    assert client_properties(ConnectionParameters())["version"] == "unknown"
    identity._release.cache_clear()
