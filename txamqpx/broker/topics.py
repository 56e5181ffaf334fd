"""Topic patterns: which of them fit a routing key, all at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import Final, Generic, TypeVar

import attrs

__all__ = ["MANY", "ONE", "Topics", "words_of"]

T = TypeVar("T", bound=Hashable)

ONE: Final = "*"
"""Stands in a pattern for any one word."""

MANY: Final = "#"
"""Stands in a pattern for any number of words, also none."""


def words_of(text: str) -> list[str]:
    """Cut a pattern or a key into words, which may be empty; but no text at all is no word."""
    return text.split(".") if text else []


@attrs.define(eq=False)
class _Place(Generic[T]):
    """How far a pattern has been read: the root of all that begin like it.

    Attributes:
        stays: Whether any word leads from here to here, since the word that led here was `MANY`.
        further: The next place for each word that a pattern has next, wildcards among them.
        ends: What is bound by the pattern that ends here, and how often.
    """

    stays: bool = False
    further: dict[str, _Place[T]] = attrs.field(factory=dict)
    ends: Counter[T] = attrs.field(factory=Counter)


class Topics(Generic[T]):
    """Patterns, and what is bound by each.

    A key is read word by word, and at every word there is a set of places that patterns have come to. So the
    time it takes grows with the key's length and not with the ways in which a `MANY` can be read.
    """

    def __init__(self) -> None:
        self._root: _Place[T] = _Place()

    def add(self, pattern: str, value: T) -> None:
        """Bind a value by a pattern; it may be bound by the same one more than once."""
        place = self._root
        for word in words_of(pattern):
            if word not in place.further:
                place.further[word] = _Place(stays=word == MANY)
            place = place.further[word]
        place.ends[value] += 1

    def remove(self, pattern: str, value: T) -> None:
        """Take one such binding back, and forget the places that no pattern comes to any more.

        Raises:
            KeyError: There is none.
        """
        words = words_of(pattern)
        places = [self._root]
        for word in words:
            places.append(places[-1].further[word])
        ends = places[-1].ends
        if ends[value] < 1:
            raise KeyError(value)
        ends[value] -= 1
        if not ends[value]:
            del ends[value]
        for word, before, place in zip(
            reversed(words), reversed(places[:-1]), reversed(places), strict=False
        ):
            if place.ends or place.further:
                break
            del before.further[word]

    def matching(self, key: str) -> Iterator[T]:
        """Return what is bound by the patterns that fit a key; a value may come more than once."""
        places = _with_none(self._root)
        for word in words_of(key):
            places = {
                further: None for place in places for further in _after(place, word)
            }  # a dict is a set in an order that is always the same
        for place in places:
            yield from place.ends


def _after(place: _Place[T], word: str) -> Iterable[_Place[T]]:
    """Return the places that a word leads to."""
    if place.stays:
        yield from _with_none(place)
    # A key's own `*` or `#` leads to where any word does, for no pattern can ask for it by itself.
    if word in place.further:
        yield from _with_none(place.further[word])
    if ONE in place.further:
        yield from _with_none(place.further[ONE])


def _with_none(place: _Place[T]) -> dict[_Place[T], None]:
    """Return a place and those that it takes no word to come to from there."""
    places = {place: None}
    while MANY in place.further:
        place = place.further[MANY]
        places[place] = None
    return places
