"""The house: who may know whom.

The imports are read, not executed: importing a module runs the packages above it, and an import under
`TYPE_CHECKING` or inside a function is a dependency as well.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

RANKS = {
    "txamqpx.errors": 0,
    "txamqpx.spec": 1,
    "txamqpx.protocol": 2,
    "txamqpx.arguments": 3,
    "txamqpx.entities": 3,
    "txamqpx.identity": 3,
    "txamqpx.lint": 3,
    "txamqpx.message": 3,
    "txamqpx.params": 3,
    "txamqpx.queue_types": 3,
    "txamqpx.server": 3,
    "txamqpx.topology": 3,
    "txamqpx.interfaces": 4,
    "txamqpx.channel": 5,
    "txamqpx.channel_methods": 5,
    "txamqpx.connection": 5,
    "txamqpx.delegates": 5,
    "txamqpx.dispatch": 5,
    "txamqpx.endpoints": 5,
    "txamqpx.once": 5,
    "txamqpx.pulse": 5,
    "txamqpx.tls": 5,
    "txamqpx.writer": 5,
    "txamqpx.client": 6,
    "txamqpx.consumer": 6,
    "txamqpx.consuming": 6,
    "txamqpx.consumption": 6,
    "txamqpx.declaration": 6,
    "txamqpx.deliveries": 6,
    "txamqpx.lanes": 6,
    "txamqpx.ordering": 6,
    "txamqpx.pipeline": 6,
    "txamqpx.publisher": 6,
    "txamqpx.publishing": 6,
    "txamqpx.rpc": 6,
    "txamqpx.transaction": 6,
    "txamqpx.blocking": 7,
    "txamqpx.broker": 7,
    "txamqpx.testing": 8,
}
"""Each module's rank, or that of the package it lives in. The root is above all of them."""

BROKER_MAY_USE = {
    "txamqpx.endpoints": "the registry of URL schemes",
    "txamqpx.pulse": "the same on both sides of a wire",
    "txamqpx.writer": "the same on both sides of a wire",
}
"""What the embedded broker takes from ranks 5 and 6, and why: nothing else of a client is its business."""

TOP = 9
WITHOUT_TWISTED = 3
CLOCKS_AND_WIRES = {"asyncio", "sched", "select", "selectors", "socket", "ssl", "threading", "time"}

TYPE_CHECKED = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from txamqpx.connection import AMQPProtocol
"""


def sources() -> dict[str, str]:
    """Return the source of every module of the library, by name; a package has the name of its folder."""
    found = {}
    for path in sorted((ROOT / "txamqpx").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def rank(module: str) -> int:
    """Return a module's rank.

    Raises:
        KeyError: It has none; it needs a line in RANKS.
    """
    if module == "txamqpx":
        return TOP
    name = module
    while name not in RANKS:
        name, dot, _ = name.rpartition(".")
        if not dot:
            raise KeyError(f"{module} has no rank")
    return RANKS[name]


def imports(source: str, modules: Mapping[str, str]) -> Iterator[str]:
    """Yield the name of everything that a source imports; of a name from one of ours, the module it is in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level + (node.module or "")
                continue
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in modules else str(node.module)


def is_in(package: str, module: str) -> bool:
    """Tell whether a module is a package or in it."""
    return f"{module}.".startswith(f"{package}.")


def violations(modules: Mapping[str, str]) -> list[str]:
    """Return a sentence for each import that the house does not allow."""
    found = []
    graph: dict[str, set[str]] = {}
    for module, source in modules.items():
        graph[module] = set()
        for name in imports(source, modules):
            root = name.partition(".")[0]
            if root == "":
                found.append(f"{module} imports {name} relatively")
            elif root == "txamqpx":
                graph[module].add(name)
                if is_in("txamqpx.broker", module) and rank(name) in (5, 6) and name not in BROKER_MAY_USE:
                    found.append(f"{module} imports {name}, which is a client's")
                if rank(name) > rank(module):
                    found.append(f"{module} (rank {rank(module)}) imports {name} (rank {rank(name)})")
            elif root == "twisted" and rank(module) <= WITHOUT_TWISTED:
                found.append(f"{module} (rank {rank(module)}) imports {name}")
            elif root in CLOCKS_AND_WIRES and rank(module) == RANKS["txamqpx.protocol"]:
                found.append(f"{module} imports {name}, but the protocol knows no clock and no wire")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"a cycle: {' -> '.join(error.args[1])}")
    return found


def test_the_library_keeps_the_ranks() -> None:
    assert violations(sources()) == []


def test_the_ranks_are_those_of_modules_that_exist() -> None:
    assert sources().keys() >= RANKS.keys() | {"txamqpx", "txamqpx.spec.wire"}


@pytest.mark.parametrize(
    ("module", "source", "violation"),
    [
        ("txamqpx.errors", "import txamqpx.spec.wire", "(rank 0) imports txamqpx.spec.wire (rank 1)"),
        ("txamqpx.errors", "from txamqpx.spec import wire", "(rank 0) imports txamqpx.spec.wire (rank 1)"),
        (
            "txamqpx.spec.wire",
            "def f():\n    from txamqpx.params import x",
            "imports txamqpx.params (rank 3)",
        ),
        ("txamqpx.protocol.channel", TYPE_CHECKED, "(rank 2) imports txamqpx.connection (rank 5)"),
        ("txamqpx.channel", "from txamqpx import connect", "(rank 5) imports txamqpx (rank 9)"),
        ("txamqpx.params", "from twisted.internet import reactor", "(rank 3) imports twisted.internet"),
        ("txamqpx.spec.wire", "from .base import Method", "imports .base relatively"),
        ("txamqpx.spec.wire", "from . import base", "imports . relatively"),
        ("txamqpx.protocol.heartbeat", "import time", "imports time, but the protocol knows no clock"),
        ("txamqpx.broker.queue", "from txamqpx.channel import Channel", "which is a client's"),
    ],
)
def test_a_forbidden_import_is_named(module: str, source: str, violation: str) -> None:
    (found,) = violations({"txamqpx.spec.wire": "", module: source})
    assert found.startswith(module)
    assert violation in found


def test_a_cycle_is_named() -> None:
    (found,) = violations(
        {
            "txamqpx.spec.a": "from txamqpx.spec import b",
            "txamqpx.spec.b": "from txamqpx.spec.c import x",
            "txamqpx.spec.c": "def f():\n    import txamqpx.spec.a",
        }
    )
    assert found.startswith("a cycle: ")
    assert found.count(" -> ") == 3


def test_a_module_without_a_rank_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"txamqpx\.surprise has no rank"):
        violations({"txamqpx.surprise": "import txamqpx.errors"})


def test_what_is_allowed_is_allowed() -> None:
    allowed = {
        "txamqpx.errors": "import re",
        "txamqpx.spec": "",
        "txamqpx.spec.wire": "from datetime import datetime\nfrom txamqpx import errors",
        "txamqpx.protocol.channel": "from txamqpx.spec import wire\nfrom txamqpx.errors import Closed",
        "txamqpx.connection": "from twisted.internet import defer\nfrom txamqpx.protocol import channel",
        "txamqpx": "from txamqpx.connection import AMQPProtocol",
    }
    assert violations(allowed) == []
