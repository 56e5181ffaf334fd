"""Specifications for the tests of the generator: whole ones by name, and tiny ones made up."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from tests.spec.published import USABLE, published
from txamqpx.spec.dialect import AMQP_0_9_1, Dialect, from_spec
from txamqpx.spec.model import Class, Constant, Field, Method, Spec
from txamqpx.spec.xmlspec import BUNDLED, bundled, load

CHECKED_IN = "0-9-1, checked in"
SPECS = [CHECKED_IN, *BUNDLED, *USABLE]


@cache
def spec_of(name: str) -> Spec:
    if name == CHECKED_IN:
        return bundled("0-9-1")
    return bundled(name) if name in BUNDLED else load(published(name))


@cache
def dialect_of(name: str) -> Dialect:
    return AMQP_0_9_1 if name == CHECKED_IN else from_spec(spec_of(name))


def methods(spec: Spec) -> Iterator[tuple[Class, Method]]:
    return ((klass, method) for klass in spec.classes for method in klass.methods)


def spec_with(*classes: Class, constants: tuple[Constant, ...] = ()) -> Spec:
    return Spec(major=0, minor=9, revision=1, port=5672, constants=constants, domains=(), classes=classes)


def method_with(*fields: Field) -> Any:
    dialect = from_spec(
        spec_with(Class(name="some", index=7, methods=(Method(name="thing", index=8, fields=fields),)))
    )
    return dialect.by_name["some.thing"]


def properties_with(*fields: Field) -> Any:
    return from_spec(spec_with(Class(name="some", index=7, fields=fields))).properties[7]
