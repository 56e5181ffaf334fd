"""Which addresses RabbitMQ can have made."""

from __future__ import annotations

from base64 import b64encode

import pytest

from txamqpx.rpc.address import DeadlyAddresses, is_direct, is_well_formed

PREFIX = "amq.rabbitmq.reply-to."
NUMBERS = b"\0\0\3\2\0\0\0\0\x6b\0\xea\x4c"
KEY = "Ncu4BCR+uioaVGySd3q0Gw=="


def address(process: bytes, key: str = KEY) -> str:
    return f"{PREFIX}{b64encode(process).decode()}.{key}"


def process(node: bytes = b"reply@99461988", numbers: bytes = NUMBERS) -> bytes:
    return b"\x83Xv" + len(node).to_bytes(2, "big") + node + numbers


@pytest.mark.parametrize(
    "made",
    [
        "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxNzE5NDgyMAAAAwIAAAAAawDqTA==.Ncu4BCR+uioaVGySd3q0Gw==",
        "amq.rabbitmq.reply-to.g1h2AA9yZXBseUAxMTE1OTM2NTIAAAK2AAAAAGsA6v4=.auJHnaGiqJHVbuZ9raSj7w==",
        address(process()),
        address(b"\x83Xw\x07reply@1" + NUMBERS),
    ],
)
def test_what_rabbitmq_makes(made: str) -> None:
    assert is_direct(made)
    assert is_well_formed(made)


@pytest.mark.parametrize(
    "forged",
    [
        PREFIX,
        PREFIX + "garbage",
        PREFIX + "g2dkABBy.zzz",
        PREFIX + "!." + KEY,
        PREFIX + "gé." + KEY,
        address(process()).removesuffix("." + KEY),
        address(process(), ""),
        address(process(), KEY + "." + KEY),
        address(process(b"rabbit@host")),
        address(process(b"reply@-5")),
        address(process(b"reply@+5")),
        address(process(b"reply@" + b"9" * 60)),
        address(process(numbers=NUMBERS[1:])),
        address(process(numbers=NUMBERS + b"\0")),
        address(b"\x83Xw\x08reply@1" + NUMBERS),
        address(b"\x83a\x01"),
        address(b"hello"),
        # Characters that b64decode would accept, but that are not what RabbitMQ writes.
        address(process()).replace("==.", "=.", 1),
        PREFIX + "g1h2AA5yZXBseUAxNzE5NDgyMAAAAwIAAAAAawDqTB==." + KEY,
    ],
)
def test_what_somebody_else_has_made_up(forged: str) -> None:
    assert is_direct(forged)
    assert not is_well_formed(forged)


def test_queues_are_no_direct_addresses() -> None:
    assert not is_direct("amq.rabbitmq.reply-to")
    assert not is_direct("amq.gen-1")


def test_the_oldest_of_too_many_deadly_addresses_is_forgotten() -> None:
    deadly = DeadlyAddresses(most=2)
    for name in "abc":
        deadly.add(name)
    assert [name in deadly for name in "abc"] == [False, True, True]
