"""What a protocol specification says, as frozen values.

The loader makes these from XML, the generator makes Python from these, and nothing
else in the library reads a specification.  Names are the specification's own, in its
own spelling (``"delivery-mode"``); turning them into Python identifiers is the
generator's business.
"""

from __future__ import annotations

from attrs import frozen

__all__ = ["Class", "Constant", "Domain", "ELEMENTARY_TYPES", "Field", "Method", "Spec"]

#: The types that the wire knows; every domain ends in one of them.
ELEMENTARY_TYPES = frozenset(
    {"bit", "octet", "short", "long", "longlong", "shortstr", "longstr", "timestamp", "table"}
)


@frozen
class Constant:
    """A named number, most often a reply code."""

    name: str
    value: int
    #: ``"soft-error"`` closes a channel, ``"hard-error"`` the connection; empty for the rest.
    kind: str = ""


@frozen
class Domain:
    """A name for a type that fields refer to."""

    name: str
    #: One of :data:`ELEMENTARY_TYPES`.
    type: str


@frozen
class Field:
    """One argument of a method, or one content property of a class."""

    name: str
    #: One of :data:`ELEMENTARY_TYPES`, domains already resolved.
    type: str
    #: True for fields that carry nothing any more: written as zero, never shown.
    reserved: bool = False


@frozen
class Method:
    """One method of a class."""

    name: str
    index: int
    fields: tuple[Field, ...] = ()
    #: The sender waits for one of ``responses`` before the conversation goes on.
    synchronous: bool = False
    #: Names of the methods of the same class that answer this one.
    responses: tuple[str, ...] = ()
    #: A content header and body frames follow the method.
    content: bool = False
    #: Who may receive it, as the specification's ``chassis`` says.
    to_server: bool = False
    to_client: bool = False


@frozen
class Class:
    """A class of methods and the properties that its contents carry."""

    name: str
    index: int
    methods: tuple[Method, ...] = ()
    fields: tuple[Field, ...] = ()

    def method(self, name: str) -> Method:
        """Return the method called ``name``.

        Raises:
            KeyError: The class has no such method.
        """
        for method in self.methods:
            if method.name == name:
                return method
        raise KeyError(f"{self.name}.{name}")


@frozen
class Spec:
    """A whole specification."""

    major: int
    minor: int
    revision: int
    port: int
    constants: tuple[Constant, ...]
    domains: tuple[Domain, ...]
    classes: tuple[Class, ...]
