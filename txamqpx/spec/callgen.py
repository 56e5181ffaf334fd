"""Write the calls of a channel from a specification: one typed method for each that a client sends.

The second half of the generator, beside ``modulegen``.
"""

from __future__ import annotations

from collections.abc import Iterator

from txamqpx.spec.model import Class, Method, Spec
from txamqpx.spec.naming import (
    GENERATED,
    NO_WAIT,
    class_name,
    import_lines,
    parameter_lines,
    python_name,
)

__all__ = ["channel_source"]

# Written by hand in ``txamqpx.channel``: they do more than one call and its answer.
_BY_HAND = {
    "channel.open",
    "channel.close",
    "channel.flow",
    "basic.publish",
    "basic.consume",
    "basic.cancel",
    "basic.get",
    "basic.ack",
    "basic.nack",
    "basic.reject",
    "basic.qos",
    "basic.recover",
    "basic.recover-async",
}


def channel_source(spec: Spec) -> str:
    """Return the source of a mixin with one typed call for each method that a client sends on a channel."""
    calls: list[str] = []
    used: list[str] = []
    for klass in spec.classes:
        for method in klass.methods:
            name = f"{klass.name}.{method.name}"
            if klass.name == "connection" or not method.to_server or method.content or name in _BY_HAND:
                continue
            if any(method.name in other.responses for other in klass.methods):
                continue  # an answer, not a call
            calls += ["", *_call(klass, method)]
            used += [class_name(klass.name, one) for one in (method.name, *method.responses)]
    version = f"{spec.major}_{spec.minor}" + (f"_{spec.revision}" if spec.revision else "")
    return (
        "\n".join(
            [
                '"""One typed call for each method that a client sends on a channel.',
                "",
                *GENERATED,
                '"""',
                "",
                "from __future__ import annotations",
                "",
                "from collections.abc import Mapping",
                "from typing import Any, Protocol, TypeVar",
                "",
                "from twisted.internet.defer import Deferred",
                "",
                *import_lines(f"txamqpx.spec.amqp{version}", used),
                "from txamqpx.spec.base import Method, Request",
                "",
                '__all__ = ["ChannelMethods"]',
                "",
                'R = TypeVar("R", bound=Method)',
                "",
                "",
                "class Calls(Protocol):",
                '    """What the calls stand on: a channel."""',
                "",
                "    def call(self, method: Request[R]) -> Deferred[R]:",
                '        """Send a method; fire with its answer."""',
                "",
                "",
                "class ChannelMethods:",
                '    """AMQP\'s own calls, each a Deferred of its answer; errors as in ``Channel.call``."""',
                *calls,
            ]
        )
        + "\n"
    )


def _call(klass: Class, method: Method) -> Iterator[str]:
    name = class_name(klass.name, method.name)
    fields = [
        (python_name(field.name), field.type)
        for field in method.fields
        if not field.reserved and python_name(field.name) not in NO_WAIT
    ]
    subjects = [pair for pair in fields if pair[1] not in ("bit", "table")]
    options = [pair for pair in fields if pair[1] in ("bit", "table")]
    result = " | ".join(class_name(klass.name, response) for response in method.responses) or "None"
    yield f"    def {python_name(f'{klass.name}_{method.name}')}("
    yield "        self: Calls,"
    yield from parameter_lines(f"{klass.name}.{method.name}", subjects)
    if options:
        yield "        *,"
        yield from parameter_lines(f"{klass.name}.{method.name}", options)
    yield f"    ) -> Deferred[{result}]:"
    answers = " or ".join(f"``{klass.name}.{response}``" for response in method.responses) or "the write"
    yield f'        """Send ``{klass.name}.{method.name}``; fires with {answers}."""'
    if fields:
        yield "        return self.call("
        yield f"            {name}("
        yield from (f"                {field}={field}," for field, _ in subjects + options)
        yield "            )"
        yield "        )"
    else:
        yield f"        return self.call({name}())"
