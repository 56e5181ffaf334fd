"""Specifications that must not load, and what the error says of each."""

from __future__ import annotations


def amqp(inside: str, version: str = 'major="0" minor="9" revision="1" port="5672"') -> str:
    return f"<amqp {version}>{inside}</amqp>"


METHOD = '<method name="qos" index="10"{}>{}</method>'
CLASS = '<class name="basic" index="60"{}>{}</class>'


def in_class(inside: str) -> str:
    return amqp(CLASS.format("", inside))


def in_method(inside: str, attributes: str = "") -> str:
    return in_class(METHOD.format(attributes, inside))


#: The text, the place that is to blame, and the reason.
REFUSED = [
    ("", "", "is not well-formed XML: no element found: line 1, column 0"),
    ("<amqp", "", "is not well-formed XML: unclosed token: line 1, column 0"),
    ("<spec/>", "", "the outermost element is <spec>, not <amqp>"),
    (amqp(""), "", "no classes"),
    ("<amqp/>", "amqp", "<amqp> has no 'major'"),
    ('<amqp major="0" minor="9"><class name="a" index="1"/></amqp>', "amqp", "<amqp> has no 'port'"),
    (
        amqp("", 'major="0" minor="10" port="5672"'),
        "",
        "AMQP 0-10 is another protocol that only shares the name; AMQP 0-8, 0-9 and 0-9-1 can be used",
    ),
    (
        amqp("", 'major="0" minor="9" revision="2" port="5672"'),
        "",
        "AMQP 0-9-2 is another protocol that only shares the name; AMQP 0-8, 0-9 and 0-9-1 can be used",
    ),
    (
        '<amqp xmlns="http://www.amqp.org/schema/amqp.xsd" name="transport"/>',
        "",
        "AMQP 1.0 is another protocol that only shares the name; AMQP 0-8, 0-9 and 0-9-1 can be used",
    ),
    # Twice the same
    (
        amqp('<constant name="a" value="1"/><constant name="a" value="2"/>'),
        "",
        "constant 'a' occurs twice",
    ),
    (
        amqp('<domain name="a b" type="bit"/><domain name="a-b" type="bit"/>'),
        "",
        "domain 'a-b' occurs twice",
    ),
    (amqp(CLASS.format("", "") * 2), "", "class 'basic' occurs twice"),
    (
        amqp('<class name="a" index="1"/><class name="b" index="1"/>'),
        "",
        "class index '1' occurs twice",
    ),
    (in_class(METHOD.format("", "") * 2), "basic", "method 'qos' occurs twice"),
    (
        in_class('<method name="a" index="1"/><method name="b" index="1"/>'),
        "basic",
        "method index '1' occurs twice",
    ),
    (in_method('<field name="a" type="bit"/>' * 2), "basic.qos", "field 'a' occurs twice"),
    (in_class('<field name="a" type="bit"/>' * 2), "basic", "field 'a' occurs twice"),
    # Types
    (in_method('<field name="size" domain="huge"/>'), "basic.qos.size", "unknown type 'huge'"),
    (in_class('<field name="size" domain="huge"/>'), "basic.size", "unknown type 'huge'"),
    (
        amqp('<domain name="a" type="b"/><domain name="b" type="huge"/>'),
        "domain a",
        "unknown type 'a' (by way of 'huge')",
    ),
    (
        amqp('<domain name="a" type="b"/><domain name="b" type="a"/>'),
        "domain a",
        "the domains go round in a circle: a -> b -> a",
    ),
    (amqp('<domain name="a" type="a"/>'), "domain a", "unknown type 'a'"),
    # Missing and wrong
    (amqp('<domain name="a"/>'), "domain a", "<domain> has no 'type'"),
    (amqp('<constant name="a"/>'), "constant a", "<constant> has no 'value'"),
    (amqp('<constant value="1"/>'), "constant", "<constant> has no 'name'"),
    (amqp('<class name="basic"/>'), "basic", "<class> has no 'index'"),
    (in_class('<method index="1"/>'), "basic: method", "<method> has no 'name'"),
    (in_class('<method name="qos"/>'), "basic.qos", "<method> has no 'index'"),
    (in_method('<field name="size"/>'), "basic.qos.size", "<field> has no 'type'"),
    (in_method('<field type="bit"/>'), "basic.qos: field", "<field> has no 'name'"),
    (in_method("<response/>"), "basic.qos: response", "<response> has no 'name'"),
    (in_method("<chassis/>"), "basic.qos: chassis", "<chassis> has no 'name'"),
    (in_method('<response name="gone"/>'), "basic.qos", "no method 'gone' to respond with"),
    (in_method("", ' content="yes"'), "basic.qos", "content='yes' is neither 0 nor 1"),
    (
        in_method('<field name="a" type="bit" reserved="true"/>'),
        "basic.qos.a",
        "reserved='true' is neither 0 nor 1",
    ),
    *(
        (
            in_class(f'<method name="qos" index="{index}"/>'),
            "basic.qos",
            f"index='{index}' is not a number from 0 to 65535",
        )
        for index in ("ten", "-1", "65536", "1.0", "²", "9" * 5000)
    ),
    # Names become source code
    *(
        (in_class(f'<method name="{name}" index="1"/>'), "basic: method", f"{name!r} cannot be a name")
        for name in ("x(): pass", "1st", "a--b", "-a", "a-", " ", "é", "_a", "a.b")
    ),
    (in_method('<field name="a;b" type="bit"/>'), "basic.qos: field", "'a;b' cannot be a name"),
    (amqp('<class name="a b()" index="1"/>'), "class", "'a b()' cannot be a name"),
    (amqp('<constant name="a=b" value="1"/>'), "constant", "'a=b' cannot be a name"),
    (amqp('<domain name="a=b" type="bit"/>'), "domain", "'a=b' cannot be a name"),
]

#: Eight layers of entities, each ten times the one below.
BILLION_LAUGHS = (
    '<!DOCTYPE amqp [<!ENTITY a "ha">'
    + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">'
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]>"
    + amqp("&i;")
)
