"""A protocol version at run time: its methods by index and by name, its properties, its constants.

The checked-in module serves 0-9-1.  Any other specification goes through the same generator
and is compiled in memory, so both have the same classes, checks and speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from attrs import field, frozen

from txamqpx.spec import amqp0_9_1
from txamqpx.spec.base import Method, Properties
from txamqpx.spec.model import Spec

__all__ = ["AMQP_0_9_1", "Dialect", "from_spec"]


@frozen(eq=False, repr=False)
class Dialect:
    """One version of the protocol, ready for use."""

    major: int
    minor: int
    revision: int
    port: int
    #: Every method class by ``class_id << 16 | method_id``.
    methods: Mapping[int, type[Method]]
    #: Every method class by its name in the specification.
    by_name: Mapping[str, type[Method]] = field(init=False)
    #: The properties of the classes whose methods carry content, by class number.
    properties: Mapping[int, type[Properties]]
    #: Reply codes that close a channel, with their names.
    soft_errors: Mapping[int, str]
    #: Reply codes that close the connection, with their names.
    hard_errors: Mapping[int, str]
    #: The indexes of all methods that answer another one.
    responses: frozenset[int] = field(init=False)

    @by_name.default
    def _name_them(self) -> Mapping[str, type[Method]]:
        return {method.name: method for method in self.methods.values()}

    @responses.default
    def _gather_responses(self) -> frozenset[int]:
        return frozenset(index for method in self.methods.values() for index in method.responses)

    @property
    def header(self) -> bytes:
        """The eight bytes that a client sends first (0-9-1 section 4.2.2)."""
        if (self.major, self.minor) == (0, 9) and self.revision:
            return b"AMQP" + bytes((0, 0, 9, self.revision))
        return b"AMQP" + bytes((1, 1, self.major, self.minor))

    def new(self, name: str, /, **arguments: Any) -> Method:
        """Make the method called ``name``; arguments that this version does not know are left out.

        So the machines can speak of ``connection.open`` without knowing that 0-8 wants more in it.
        """
        kind = self.by_name[name]
        known = {one for one, _ in kind.fields}
        return kind(**{key: value for key, value in arguments.items() if key in known})

    def __repr__(self) -> str:
        return f"<AMQP {self.major}-{self.minor}{f'-{self.revision}' if self.revision else ''}>"


def _from_module(module: ModuleType) -> Dialect:
    return Dialect(
        major=module.MAJOR,
        minor=module.MINOR,
        revision=module.REVISION,
        port=module.PORT,
        methods={method.index: method for method in module.METHODS},
        properties=module.PROPERTIES,
        soft_errors=module.SOFT_ERRORS,
        hard_errors=module.HARD_ERRORS,
    )


def from_spec(spec: Spec) -> Dialect:
    """Compile any specification, such as ``xmlspec.load("amqp0-8.xml")`` returns.

    The loader has checked every name that ends up in the source, so a file cannot smuggle code in.

    Raises:
        SpecError: The specification asks for what the generated code cannot express.
    """
    from txamqpx.spec.modulegen import module_source  # only who compiles a specification pays for it

    version = f"{spec.major}_{spec.minor}_{spec.revision}"
    module = ModuleType(f"txamqpx.spec.amqp{version}_at_run_time")
    exec(compile(module_source(spec), f"<{module.__name__}>", "exec"), module.__dict__)
    return _from_module(module)


#: AMQP 0-9-1 with RabbitMQ's extensions.
AMQP_0_9_1 = _from_module(amqp0_9_1)
