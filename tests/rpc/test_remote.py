"""A failure goes over the wire as its name and its words, and nothing else."""

from __future__ import annotations

import pytest

from txamqpx.errors import RemoteError
from txamqpx.rpc.remote import ERROR, described, failure_reply


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (ValueError("too\nlarge"), ("ValueError", "too\N{REPLACEMENT CHARACTER}large")),
        (Speechless(), ("Speechless", "")),
        (RemoteError("Mine", "words"), ("Mine", "words")),
    ],
    ids=["words", "speechless", "chosen"],
)
def test_an_exception_is_described_by_name_and_words(error: Exception, wanted: tuple[str, str]) -> None:
    described_as = described(error)
    assert (described_as.type, described_as.message) == wanted
    assert described_as.__cause__ is None


def test_what_does_not_fit_is_cut_and_what_cannot_be_encoded_is_named() -> None:
    body, fields = failure_reply(RemoteError("T" * 300, "\udcff" + "m" * 20_000))
    assert body == b"\\udcff" + b"m" * 9_999
    assert fields["headers"][ERROR] == "T" * 100
    assert (fields["content_type"], fields["content_encoding"]) == ("text/plain", "utf-8")
    _, fields = failure_reply(RemoteError("\udcff"))
    assert fields["headers"][ERROR] == "\\udcff"
