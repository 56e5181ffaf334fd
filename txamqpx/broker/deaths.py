"""What a dead letter tells of its deaths: ``x-death``, and the headers for the first and the last one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import evolve

from txamqpx.broker.fields import Fields, array, array_items, number, table, table_fields, text, timestamp
from txamqpx.broker.message import Death
from txamqpx.spec.wire import decode_table

__all__ = ["added", "is_circle", "told_by_headers", "told_by_record"]

X_DEATH = b"x-death"


def is_circle(queue: str, deaths: Iterable[tuple[str, str]]) -> bool:
    """Return whether a letter comes back to a queue without a client's refusal on the way.

    Args:
        queue: Where it would go.
        deaths: Queue and reason of its deaths, the last one first.
    """
    for place, reason in deaths:
        if place == queue or reason == "rejected":
            return reason != "rejected"
    return False


# --------------------------------------------------------------------------- the record of RabbitMQ 4


def added(deaths: Sequence[Death], death: Death) -> tuple[Death, ...]:
    """Return deaths with one more, the last one first; one of a kind goes on counting, with its old facts."""
    others = []
    for one in deaths:
        if (one.queue, one.reason) == (death.queue, death.reason):
            death = evolve(one, count=one.count + 1)
        else:
            others.append(one)
    return death, *others


def told_by_record(fields: Fields, deaths: Sequence[Death], last: Death, *, first: bool) -> None:
    """Put into headers what the broker knows; what a client made up is overwritten.

    Args:
        fields: The headers.
        deaths: All deaths, by kind, the last one first.
        last: The last one by itself.
        first: Whether it is the first one, too.
    """
    fields[X_DEATH] = array([b"F" + table(_told(death)) for death in deaths])
    if first:
        _tell_end(fields, b"x-first-death", last)
    _tell_end(fields, b"x-last-death", last)


def _told(death: Death) -> Fields:
    fields = {} if death.ttl is None else {b"original-expiration": text(str(death.ttl))}
    return {**fields, b"count": number(death.count), **_facts(death)}


def _facts(death: Death) -> Fields:
    return {
        b"reason": text(death.reason),
        b"queue": text(death.queue),
        b"time": timestamp(death.time),
        b"exchange": text(death.exchange),
        b"routing-keys": array(map(text, death.keys)),
    }


def _tell_end(fields: Fields, name: bytes, death: Death) -> None:
    fields[name + b"-reason"] = text(death.reason)
    fields[name + b"-queue"] = text(death.queue)
    fields[name + b"-exchange"] = text(death.exchange)


# --------------------------------------------------------------------------- the headers of RabbitMQ 3


def told_by_headers(fields: Fields, death: Death, expiration: str | None) -> list[tuple[str, str]]:
    """Add a death to what headers tell already, whoever put it there.

    RabbitMQ 3 keeps no other record.  It turns round the order of the deaths that there are, if they are
    more than one, each time that it adds to them, and sorts the names in the table that it has touched.

    Returns:
        Queue and reason of the deaths as they stand there then.
    """
    new = _facts(death)
    if expiration is not None:
        new[b"original-expiration"] = text(expiration)
    new = {b"count": number(1), **new}
    before = fields.get(X_DEATH)
    known = _tables(before)
    if known is None:
        if before is None:
            _tell_end(fields, b"x-first-death", death)
        known = []
    else:
        key = _key(new)
        if len(known) > 1:
            known = _grouped(known)
        for one in known:
            if _key(one) == key:
                new = _counted_on(one)
        known = [one for one in known if _key(one) != key]
        new = dict(sorted(new.items()))
    deaths = [new, *known]
    fields[X_DEATH] = array([b"F" + table(one) for one in deaths])
    return [_key(one) for one in deaths]


def _tables(value: bytes | None) -> list[Fields] | None:
    """Return the tables in an array; None: it is no array of tables, and counts for nothing."""
    if value is None or value[:1] != b"A":
        return None
    items = array_items(value)
    if any(item[:1] != b"F" for item in items):
        return None
    return [table_fields(item[1:]) for item in items]


def _grouped(tables: Sequence[Fields]) -> list[Fields]:
    grouped: dict[tuple[str, str], Fields] = {}
    counts: dict[tuple[str, str], int] = {}
    for one in tables:
        key = _key(one)
        grouped.setdefault(key, one)
        counts[key] = counts.get(key, 0) + 1
    known = [
        one if b"count" in one else {b"count": number(counts[key]), **one} for key, one in grouped.items()
    ]
    return known[::-1]


def _counted_on(fields: Fields) -> Fields:
    count = fields.get(b"count")
    value = None if count is None else decode_table(table({b"": count}), 0)[0][""]
    return {**fields, b"count": number(value + 1 if type(value) is int else 1)}


def _key(fields: Fields) -> tuple[str, str]:
    return _text(fields.get(b"queue")), _text(fields.get(b"reason"))


def _text(value: bytes | None) -> str:
    return "" if value is None or value[:1] != b"S" else value[5:].decode("utf-8", "surrogateescape")
