from __future__ import annotations

import pytest

from txamqpx.spec.naming import class_name, python_name

# --------------------------------------------------------------------------- methods


@pytest.mark.parametrize(
    ("name", "python"),
    [
        ("delivery-tag", "delivery_tag"),
        ("delivery tag", "delivery_tag"),
        ("global", "global_"),
        ("return", "return_"),
        ("None", "None_"),
        ("type", "type"),
        ("class-id", "class_id"),
        ("name", "name_"),
        ("offset", "offset_"),
    ],
)
def test_a_name_becomes_an_identifier(name: str, python: str) -> None:
    assert python_name(name) == python


@pytest.mark.parametrize(
    ("klass", "method", "python"),
    [
        ("queue", "declare-ok", "QueueDeclareOk"),
        ("basic", "return", "BasicReturn"),
        ("my test", "a b", "MyTestAB"),
    ],
)
def test_a_class_is_named_after_its_method(klass: str, method: str, python: str) -> None:
    assert class_name(klass, method) == python
