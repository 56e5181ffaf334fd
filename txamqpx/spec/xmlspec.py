"""Read AMQP's XML specifications into the model.

Any AMQP 0-8, 0-9 or 0-9-1 file in the schema that the working group published is read
as it is, whoever extended it.  A file may come from anywhere, and the generator will turn
its names into Python source: so entities are refused, names are checked, and whatever
does not add up is a ``SpecError`` that names the culprit, here and
not as a puzzle on the wire.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from attrs import evolve, field, frozen

from txamqpx.errors import SpecError
from txamqpx.spec.model import ELEMENTARY_TYPES, Class, Constant, Domain, Field, Method, Spec

__all__ = ["BUNDLED", "bundled", "load", "loads"]

#: The specifications that come with this library.
BUNDLED = ("0-9-1", "0-9", "0-8")

# Version as written in the file -> version as it is.  AMQP 0-8 calls itself 8-0 on the wire and
# in its file, and Qpid writes 0-91 for 0-9-1.
_VERSIONS = {
    (8, 0, 0): (8, 0, 0),
    (0, 8, 0): (8, 0, 0),
    (0, 9, 0): (0, 9, 0),
    (0, 9, 1): (0, 9, 1),
    (0, 91, 0): (0, 9, 1),
}
_OTHER_PROTOCOL = "is another protocol that only shares the name; AMQP 0-8, 0-9 and 0-9-1 can be used"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[ _-][A-Za-z0-9]+)*")
_USHORT_MAX = 0xFFFF


def load(source: str | os.PathLike[str]) -> Spec:
    """Read the specification in the file ``source``.

    Raises:
        SpecError: The file cannot be read, or is no specification of AMQP 0-8, 0-9 or 0-9-1.
    """
    try:
        text = Path(source).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(f"cannot be read: {reason}", source=os.fspath(source)) from error
    return _Reader(os.fspath(source)).spec(text)


def loads(text: str | bytes) -> Spec:
    """Read a specification from memory.

    Raises:
        SpecError: The text is no specification of AMQP 0-8, 0-9 or 0-9-1.
    """
    return _Reader("<string>").spec(text)


def bundled(name: str) -> Spec:
    """Read one of the specifications that come with this library.

    Args:
        name: One of :data:`BUNDLED`.

    Raises:
        SpecError: There is none of that name.
    """
    if name not in BUNDLED:
        raise SpecError(f"not bundled; there are {', '.join(BUNDLED)}", source=name)
    file = resources.files(__package__) / "data" / f"amqp{name}.xml"
    return _Reader(file.name).spec(file.read_bytes())


@frozen
class _Element:
    tag: str
    attributes: dict[str, str]
    children: list[_Element] = field(factory=list)

    def all(self, tag: str) -> Iterator[_Element]:
        return (child for child in self.children if child.tag == tag)


def _fold(name: str) -> str:
    """Make one of the spellings of a name: Qpid's 0-9 files say both ``queue name`` and ``queue-name``."""
    return name.replace(" ", "-").replace("_", "-").lower()


class _Reader:
    """One reading of one file; remembers its name for the errors."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._types: dict[str, str] = {}

    def spec(self, text: str | bytes) -> Spec:
        root = self._parse(text)
        if root.tag != "amqp":
            self._fail(f"the outermost element is <{root.tag}>, not <amqp>")
        major, minor, revision = self._version(root)
        constants = tuple(self._constant(element) for element in root.all("constant"))
        self._unique("constant", [constant.name for constant in constants])
        domains = self._domains(root)
        classes = tuple(self._class(element) for element in root.all("class"))
        if not classes:
            self._fail("no classes")
        self._unique("class", [each.name for each in classes])
        self._unique("class index", [str(each.index) for each in classes])
        return Spec(
            major=major,
            minor=minor,
            revision=revision,
            port=self._number(root, "port", "amqp"),
            constants=constants,
            domains=domains,
            classes=classes,
        )

    def _fail(self, reason: str, where: str = "") -> NoReturn:
        raise SpecError(reason, source=self._source, where=where)

    def _parse(self, text: str | bytes) -> _Element:
        parser = expat.ParserCreate()
        document = _Element("", {})
        open_elements = [document]

        def start(tag: str, attributes: dict[str, str]) -> None:
            element = _Element(tag, attributes)
            open_elements[-1].children.append(element)
            open_elements.append(element)

        def end(_tag: str) -> None:
            open_elements.pop()

        def entity(name: str, *_declaration: object) -> None:
            # A few lines of nested entities unfold to gigabytes, an external one reads a file or a URL.
            self._fail(f"entity {name!r}: entities are refused", f"line {parser.CurrentLineNumber}")

        parser.StartElementHandler = start
        parser.EndElementHandler = end
        parser.EntityDeclHandler = entity
        try:
            parser.Parse(text, True)
        except SpecError:
            raise
        except (expat.ExpatError, LookupError, ValueError) as error:
            # LookupError and ValueError: an encoding that Python or expat does not know.
            raise SpecError(f"is not well-formed XML: {error}", source=self._source) from error
        return document.children[0]

    def _version(self, root: _Element) -> tuple[int, int, int]:
        if "major" not in root.attributes and "xmlns" in root.attributes:
            self._fail(f"AMQP 1.0 {_OTHER_PROTOCOL}")
        major = self._number(root, "major", "amqp")
        minor = self._number(root, "minor", "amqp")
        revision = self._number(root, "revision", "amqp") if "revision" in root.attributes else 0
        version = _VERSIONS.get((major, minor, revision))
        if version is None:
            self._fail(f"AMQP {major}-{minor}{f'-{revision}' if revision else ''} {_OTHER_PROTOCOL}")
        return version

    def _constant(self, element: _Element) -> Constant:
        name = self._name(element, "constant")
        kind = element.attributes.get("class", "").replace(" ", "-")
        return Constant(name=name, value=self._number(element, "value", f"constant {name}"), kind=kind)

    def _domains(self, root: _Element) -> tuple[Domain, ...]:
        names = [self._name(element, "domain") for element in root.all("domain")]
        self._unique("domain", names)
        for name, element in zip(names, root.all("domain"), strict=True):
            self._types[_fold(name)] = _fold(self._attribute(element, "type", f"domain {name}"))
        return tuple(Domain(name=name, type=self._elementary(name, f"domain {name}")) for name in names)

    def _elementary(self, type_: str, where: str) -> str:
        """Follow the domains down to the type that the wire knows."""
        passed: list[str] = []
        name = _fold(type_)
        while self._types.get(name, name) != name:
            if name in passed:
                self._fail(f"the domains go round in a circle: {' -> '.join([*passed, name])}", where)
            passed.append(name)
            name = self._types[name]
        if name not in ELEMENTARY_TYPES:
            self._fail(f"unknown type {type_!r}" + (f" (by way of {name!r})" if passed else ""), where)
        return name

    def _class(self, element: _Element) -> Class:
        name = self._name(element, "class")
        methods = [self._method(child, name) for child in element.all("method")]
        self._unique("method", [method.name for method in methods], name)
        self._unique("method index", [str(method.index) for method in methods], name)
        return Class(
            name=name,
            index=self._number(element, "index", name),
            methods=tuple(self._answered(methods, name)),
            fields=self._fields(element, name),
        )

    def _method(self, element: _Element, class_name: str) -> Method:
        name = self._name(element, f"{class_name}: method")
        where = f"{class_name}.{name}"
        responses = tuple(self._name(child, f"{where}: response") for child in element.all("response"))
        receivers = {self._attribute(child, "name", f"{where}: chassis") for child in element.all("chassis")}
        return Method(
            name=name,
            index=self._number(element, "index", where),
            fields=self._fields(element, where),
            # The files call replies synchronous as well; but nobody waits for an answer to an answer.
            synchronous=self._flag(element, "synchronous", where) and bool(responses),
            responses=responses,
            content=self._flag(element, "content", where),
            # Where a file says nothing, either side may receive it.
            to_server="server" in receivers or not receivers,
            to_client="client" in receivers or not receivers,
        )

    def _answered(self, methods: list[Method], class_name: str) -> Iterator[Method]:
        """Check each method's answers, and give ``recover`` the ``recover-ok`` that AMQP 0-9-1 forgot.

        Qpid's ``exchange.bound`` and ``basic.recover-sync`` lack theirs likewise.  A method that has
        an ``-ok`` is answered by it, always: without this the reply would look unsolicited.
        """
        names = {method.name for method in methods}
        for method in methods:
            for response in method.responses:
                if response not in names:
                    self._fail(f"no method {response!r} to respond with", f"{class_name}.{method.name}")
            if not method.responses and f"{method.name}-ok" in names:
                yield evolve(method, synchronous=True, responses=(f"{method.name}-ok",))
            else:
                yield method

    def _fields(self, element: _Element, where: str) -> tuple[Field, ...]:
        fields = tuple(each for child in element.all("field") for each in self._field(child, where))
        self._unique("field", [each.name for each in fields], where)
        return fields

    def _field(self, element: _Element, parent: str) -> Iterator[Field]:
        name = self._name(element, f"{parent}: field")
        where = f"{parent}.{name}"
        type_ = element.attributes.get("domain") or self._attribute(element, "type", where)
        reserved = self._flag(element, "reserved", where)
        if type_ == "content" and type_ not in self._types:
            # The one compound of AMQP 0-9, in its message class: an octet that says whether the
            # long string is the text itself (0) or a reference to it (1).
            yield Field(name=f"{name}-kind", type="octet", reserved=reserved)
            yield Field(name=name, type="longstr", reserved=reserved)
        else:
            yield Field(name=name, type=self._elementary(type_, where), reserved=reserved)

    def _unique(self, what: str, values: list[str], where: str = "") -> None:
        seen: set[str] = set()
        for value in values:
            if _fold(value) in seen:
                self._fail(f"{what} {value!r} occurs twice", where)
            seen.add(_fold(value))

    def _attribute(self, element: _Element, name: str, where: str) -> str:
        value = element.attributes.get(name)
        if not value:
            self._fail(f"<{element.tag}> has no {name!r}", where)
        return value

    def _name(self, element: _Element, where: str) -> str:
        name = self._attribute(element, "name", where)
        # Names become identifiers of generated source, so this check is the fence around exec().
        if not _NAME.fullmatch(name):
            self._fail(f"{name!r} cannot be a name", where)
        return name

    def _number(self, element: _Element, name: str, where: str) -> int:
        text = self._attribute(element, name, where)
        # The length first: Python refuses to convert thousands of digits.
        if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= _USHORT_MAX):
            self._fail(f"{name}={text!r} is not a number from 0 to {_USHORT_MAX}", where)
        return int(text)

    def _flag(self, element: _Element, name: str, where: str) -> bool:
        text = element.attributes.get(name, "0")
        if text not in ("0", "1"):
            self._fail(f"{name}={text!r} is neither 0 nor 1", where)
        return text == "1"
