"""Write a module with every method, property set and constant of a specification, with fused codecs.

The source is laid out as the formatter would, so that it passes the linter and a byte-for-byte
comparison alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from txamqpx.errors import SpecError
from txamqpx.spec.model import Class, Field, Method, Spec
from txamqpx.spec.naming import (
    DECODERS,
    GENERATED,
    NO_WAIT,
    NORMALISED,
    PYTHON_TYPES,
    class_name,
    import_lines,
    parameter_lines,
    python_name,
)

__all__ = ["module_source"]

_ENCODE = {
    "octet": "encode_octet",
    "short": "encode_short",
    "long": "encode_long",
    "longlong": "encode_long_long",
    "shortstr": "encode_short_string",
    "longstr": "encode_long_string",
    "timestamp": "encode_timestamp",
    "table": "encode_table",
}
_FIXED = {"octet": "B", "short": "H", "long": "I", "longlong": "Q"}
_WIDTH = {"B": 1, "H": 2, "I": 4, "Q": 8}
# What a field that is reserved looks like on the wire.
_ZERO = {
    "octet": b"\0",
    "short": b"\0" * 2,
    "long": b"\0" * 4,
    "longlong": b"\0" * 8,
    "timestamp": b"\0" * 8,
    "shortstr": b"\0",
    "longstr": b"\0" * 4,
    "table": b"\0" * 4,
}
# What carries credentials: these never show in a repr.
_SECRET = {"response", "challenge", "new_secret"}
_IMPORTED = ("ClassVar", "EncodeError", "MappingProxyType", "RawTimestamp")  # could be class and method, too


def module_source(spec: Spec) -> str:
    """Return the source of a module with every method, property set and constant of ``spec``.

    Raises:
        SpecError: The specification asks for what the generated code cannot express.
    """
    carriers = [each for each in spec.classes if each.fields or any(one.content for one in each.methods)]
    body: list[str] = []
    layouts: set[str] = set()
    for klass in spec.classes:
        for method in klass.methods:
            body += ["", "", *_method(klass, method, layouts)]
        if klass in carriers:
            body += ["", "", *_properties(klass)]
    methods = [class_name(klass.name, method.name) for klass in spec.classes for method in klass.methods]
    properties = {klass: class_name(klass.name, "properties") for klass in carriers}
    version = f"{spec.major}-{spec.minor}" + (f"-{spec.revision}" if spec.revision else "")
    constants = [(python_name(item.name).upper(), item.value) for item in spec.constants]
    tables = ["HARD_ERRORS", "MAJOR", "METHODS", "MINOR", "PORT", "PROPERTIES", "REVISION", "SOFT_ERRORS"]
    exported = sorted([*methods, *properties.values(), *(name for name, _ in constants), *tables])
    for name, times in Counter([*exported, *_IMPORTED]).items():
        if times > 1:
            raise SpecError(f"two things are called {name} in Python")
    text = "\n".join(body)
    lines = [
        f'"""AMQP {version}: every method, the content properties and the constants.',
        "",
        *GENERATED,
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from collections.abc import Mapping",
        *import_lines("datetime", [name for name in ("datetime", "timedelta") if name in text]),
        "from struct import Struct, error",
        "from types import MappingProxyType",
        "from typing import Any, ClassVar",
        "",
        *import_lines(
            "txamqpx.spec.base",
            [
                *("Method", "Properties", "Request"),
                *(function for _, function in NORMALISED.values() if f"{function}(" in text),
                *("frozen_table", "truncated"),
            ],
        ),
        *import_lines(
            "txamqpx.spec.wire",
            [
                "RawTimestamp",
                *sorted(
                    name
                    for name in (*_ENCODE.values(), *DECODERS.values(), "encode_bits")
                    if f"{name}(" in text
                ),
            ],
        ),
        "from txamqpx.errors import DecodeError, EncodeError",
        "",
        "__all__ = [",
        *(f'    "{name}",' for name in exported),
        "]",
        "",
        f"MAJOR = {spec.major}",
        f"MINOR = {spec.minor}",
        f"REVISION = {spec.revision}",
        f"PORT = {spec.port}",
        "",
        *(f"{name} = {value}" for name, value in constants),
        "",
        *_codes("SOFT_ERRORS", "Reply codes that close a channel.", spec, "soft-error"),
        *_codes("HARD_ERRORS", "Reply codes that close the connection.", spec, "hard-error"),
        "",
        *(f'_unpack_{layout.lower()} = Struct(">{layout}").unpack_from' for layout in sorted(layouts)),
        *body,
        "",
        "",
        "METHODS: tuple[type[Method], ...] = (",
        *(f"    {name}," for name in methods),
        ")",
        "",
        "#: The properties of each class whose methods carry content, by class number.",
        "PROPERTIES: Mapping[int, type[Properties]] = {",
        *(f"    {klass.index}: {name}," for klass, name in properties.items()),
        "}",
    ]
    return "\n".join(_sorted_imports(lines)) + "\n"


def _sorted_imports(lines: list[str]) -> list[str]:
    """Put the one import of errors in front of those of spec, where the linter wants it."""
    errors = "from txamqpx.errors import DecodeError, EncodeError"
    lines.remove(errors)
    first = next(position for position, line in enumerate(lines) if line.startswith("from txamqpx.spec.base"))
    lines.insert(first, errors)
    return lines


def _codes(name: str, comment: str, spec: Spec, kind: str) -> Iterator[str]:
    yield f"#: {comment}"
    found = [item for item in spec.constants if item.kind == kind]
    if not found:
        yield f"{name}: Mapping[int, str] = {{}}"
        return
    yield f"{name}: Mapping[int, str] = {{"
    for item in found:
        yield f'    {item.value}: "{item.name}",'
    yield "}"


def _method(klass: Class, method: Method, layouts: set[str]) -> Iterator[str]:
    name = f"{klass.name}.{method.name}"
    fields = [(python_name(field.name), field.type) for field in method.fields if not field.reserved]
    responses = [klass.method(response) for response in method.responses]
    results = " | ".join(class_name(klass.name, response.name) for response in responses)
    base = f'Request["{results}"]' if results else "Method"
    yield f"class {class_name(klass.name, method.name)}({base}):"
    yield f'    """``{name}``."""'
    yield ""
    yield from _slots(sorted(field for field, _ in fields))
    yield ""
    yield f'    name = "{name}"'
    yield f"    index = 0x{klass.index << 16 | method.index:08X}"
    if method.content:
        yield "    content = True"
    if responses:
        indexes = [f"0x{klass.index << 16 | one.index:08X}" for one in responses]
        yield f"    responses = ({', '.join(indexes)}{',' if len(indexes) == 1 else ''})"
    if method.to_server:
        yield "    to_server = True"
    if method.to_client:
        yield "    to_client = True"
    secret = sorted(field for field, _ in fields if klass.name == "connection" and field in _SECRET)
    if secret:
        yield f"    secrets = frozenset({{{', '.join(map(_quoted, secret))}}})"
    if fields:
        yield from _types(fields)
        yield ""
        yield "    def __init__("
        yield "        self,"
        yield from parameter_lines(name, fields)
        yield "    ) -> None:"
        yield from (f"        self.{field} = {field}" for field, _ in fields)
    for flag in sorted(NO_WAIT & {field for field, _ in fields}):
        if responses:
            yield ""
            yield "    @property"
            yield "    def expects_reply(self) -> bool:"
            yield f"        return not self.{flag}"
    yield ""
    yield from _encode(klass, method)
    yield ""
    yield from _decode(klass, method, layouts)


def _types(fields: list[tuple[str, str]]) -> Iterator[str]:
    declaration = "    fields: ClassVar[tuple[tuple[str, str], ...]] = ("
    if len(fields) == 1:
        yield f'{declaration}("{fields[0][0]}", "{fields[0][1]}"),)'
        return
    yield declaration
    yield from (f'        ("{field}", "{kind}"),' for field, kind in fields)
    yield "    )"


def _quoted(text: str) -> str:
    return f'"{text}"'


def _slots(names: list[str]) -> Iterator[str]:
    if len(names) < 2:
        yield f"    __slots__ = ({_quoted(names[0])},)" if names else "    __slots__ = ()"
        return
    yield "    __slots__ = ("
    yield from (f"        {_quoted(name)}," for name in names)
    yield "    )"


def _encode(klass: Class, method: Method) -> Iterator[str]:
    pieces: list[bytes | str] = [(klass.index << 16 | method.index).to_bytes(4, "big")]
    for is_bits, run in groupby(method.fields, key=lambda field: field.type == "bit"):
        if is_bits:
            bits = ["False" if field.reserved else f"self.{python_name(field.name)}" for field in run]
            pieces.append(f"encode_bits({', '.join(bits)})")
            continue
        for field in run:
            if not field.reserved:
                pieces.append(f"{_ENCODE[field.type]}(self.{python_name(field.name)})")
            elif isinstance(pieces[-1], bytes):
                pieces[-1] += _ZERO[field.type]
            else:
                pieces.append(_ZERO[field.type])
    yield "    def encode(self) -> bytes:"
    if len(pieces) == 1:
        yield f"        return {_literal(pieces[0])}"
        return
    yield "        try:"
    yield '            return b"".join('
    yield "                ("
    for piece in pieces:
        text = _literal(piece)
        if len(text) <= 88 or not text.startswith("encode_bits("):
            yield f"                    {text},"
        else:
            yield "                    encode_bits("
            yield from (
                f"                        {bit}," for bit in text[len("encode_bits(") : -1].split(", ")
            )
            yield "                    ),"
    yield "                )"
    yield "            )"
    yield "        except EncodeError as refused:"
    yield "            raise self.refusal(refused) from None"


def _literal(piece: bytes | str) -> str:
    if isinstance(piece, str):
        return piece
    return 'b"' + "".join(f"\\x{octet:02x}" for octet in piece) + '"'


def _decode(klass: Class, method: Method, layouts: set[str]) -> Iterator[str]:
    name = class_name(klass.name, method.name)
    yield "    @classmethod"
    yield f"    def decode(cls, data: bytes, offset: int, end: int) -> {name}:"
    visible = [field for field in method.fields if not field.reserved]
    if not visible:
        yield "        return cls()"
        return
    yield "        try:"
    bit_sources: dict[str, str] = {}
    for line in _reads(method.fields, layouts, bit_sources):
        yield f"            {line}"
    yield "        except (IndexError, error):"
    yield "            raise truncated(cls.name) from None"
    yield "        if offset > end:"
    yield "            raise truncated(cls.name)"
    arguments = [bit_sources.get(field.name, python_name(field.name)) for field in visible]
    line = f"        return cls({', '.join(arguments)})"
    if len(line) <= 110:
        yield line
    else:
        yield "        return cls("
        yield from (f"            {argument}," for argument in arguments)
        yield "        )"


def _reads(fields: tuple[Field, ...], layouts: set[str], bit_sources: dict[str, str]) -> Iterator[str]:
    """Write the reads of ``fields``: neighbours of fixed width in one go, bits from their octets."""
    fixed: list[tuple[str, str]] = []  # (target or "", struct code)
    bits = 0
    octets = 0

    def flush() -> Iterator[str]:
        nonlocal fixed
        if fixed:
            targets = [target for target, _ in fixed if target]
            width = sum(_WIDTH[code] for _, code in fixed)
            if targets:
                layout = "".join(code if target else "x" * _WIDTH[code] for target, code in fixed)
                layouts.add(layout)
                left = targets[0] if len(targets) > 1 else f"({targets[0]},)"
                left = ", ".join(targets) if len(targets) > 1 else left
                yield f"{left} = _unpack_{layout.lower()}(data, offset)"
            yield f"offset += {width}"
            fixed = []

    for field in fields:
        if field.type == "bit":
            if bits % 8 == 0:
                octets += 1
                fixed.append((f"bits{octets if octets > 1 else ''}", "B"))
            if not field.reserved:
                mask = 1 << bits % 8
                bit_sources[field.name] = f"bits{octets if octets > 1 else ''} & {mask} != 0"
            bits += 1
            continue
        bits = 0
        target = "" if field.reserved else python_name(field.name)
        if field.type in _FIXED:
            fixed.append((target, _FIXED[field.type]))
        else:
            yield from flush()
            yield f"{target or '_'}, offset = {DECODERS[field.type]}(data, offset)"
    yield from flush()


def _properties(klass: Class) -> Iterator[str]:
    name = class_name(klass.name, "properties")
    fields = [(python_name(field.name), field.type) for field in klass.fields]
    if len(fields) > 15 or any(field == "class_id" or kind == "bit" for field, kind in fields):
        raise SpecError("more than 15 properties, or a bit or a class id among them", where=klass.name)
    yield f"class {name}(Properties):"
    yield f'    """The content properties of class ``{klass.name}``; what is None is not there."""'
    yield ""
    yield "    __slots__ = ()"
    yield ""
    yield f'    name = "{klass.name}"'
    yield f"    class_id = {klass.index}"
    if fields:
        yield from _types(fields)
    yield ""
    yield "    def __init__("
    yield "        self,"
    if fields:
        yield "        *,"
    for field, kind in fields:
        accepted = NORMALISED.get((field, kind), (PYTHON_TYPES[kind][0].removesuffix(" | None"), ""))[0]
        yield f"        {field}: {accepted} | None = None,"
    yield "    ) -> None:"
    yield "        values: dict[str, Any] = {}"
    for field, kind in fields:
        yield f"        if {field} is not None:"
        value = f"frozen_table({field})" if kind == "table" else field
        if (field, kind) in NORMALISED:
            value = f"{NORMALISED[field, kind][1]}({field})"
        yield f'            values["{field}"] = {value}'
    yield "        self._values = values"
    yield "        self._encoded: bytes | None = None"
    for field, kind in fields:
        accepted = PYTHON_TYPES[kind][0].removesuffix(" | None")
        yield ""
        yield "    @property"
        yield f"    def {field}(self) -> {accepted} | None:"
        yield f'        return self._values.get("{field}")'
    yield ""
    yield "    @classmethod"
    yield f"    def decode(cls, data: bytes, offset: int, end: int) -> {name}:"
    yield "        encoded = data[offset:end]"
    yield "        try:"
    yield "            flags = more = encoded[0] << 8 | encoded[1]"
    yield "            offset = 2"
    yield "            while more & 1:  # flags of properties that nobody has defined; their values come last"
    yield "                more = encoded[offset] << 8 | encoded[offset + 1]"
    yield "                offset += 2"
    yield "            if offset > 4:"
    yield '                raise DecodeError(f"{cls.name} properties have more than two words of flags")'
    yield "            values: dict[str, Any] = {}"
    for position, (field, kind) in enumerate(fields):
        yield f"            if flags & 0x{0x8000 >> position:04X}:"
        if kind == "table":
            yield f"                table, offset = {DECODERS[kind]}(encoded, offset)"
            yield f'                values["{field}"] = MappingProxyType(table)'
        elif kind in _FIXED and kind == "octet":
            yield f'                values["{field}"] = encoded[offset]'
            yield "                offset += 1"
        elif kind in _FIXED:
            stop = f"offset + {_WIDTH[_FIXED[kind]]}"
            yield f'                values["{field}"] = int.from_bytes(encoded[offset : {stop}], "big")'
            yield f"                offset = {stop}"
        else:
            yield f'                values["{field}"], offset = {DECODERS[kind]}(encoded, offset)'
    yield "        except (IndexError, error):"
    yield '            raise truncated(f"{cls.name} properties") from None'
    yield "        if offset > len(encoded):"
    yield '            raise truncated(f"{cls.name} properties")'
    yield "        return cls._of(values, encoded)"
