from __future__ import annotations

import pytest
from attrs import exceptions

from txamqpx.spec import wire
from txamqpx.spec.model import ELEMENTARY_TYPES, Class, Field, Method

QOS = Method(name="qos", index=10, fields=(Field(name="global", type="bit"),))
BASIC = Class(name="basic", index=60, methods=(Method(name="get", index=70), QOS))


def test_a_class_finds_its_method_by_name() -> None:
    assert BASIC.method("qos") is QOS


def test_a_method_that_is_not_there_is_a_key_error_with_its_full_name() -> None:
    with pytest.raises(KeyError, match=r"basic\.select"):
        BASIC.method("select")


def test_the_model_is_frozen() -> None:
    with pytest.raises(exceptions.FrozenInstanceError):
        QOS.index = 11  # type: ignore[misc]


def test_every_elementary_type_can_be_encoded() -> None:
    assert set(wire.ENCODERS) == ELEMENTARY_TYPES
