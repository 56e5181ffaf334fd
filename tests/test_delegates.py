from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from txamqpx.delegates import Delegate
from txamqpx.errors import ConnectionLost


@implementer(ILogObserver)
class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[Any, str]] = []

    def __call__(self, event: LogEvent) -> None:
        if event["log_namespace"] == "txamqpx.delegates.Delegate":
            self.heard.append((event["log_level"], formatEvent(event)))


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()
    globalLogPublisher.addObserver(ear)
    yield ear
    globalLogPublisher.removeObserver(ear)


@pytest.mark.parametrize(
    ("hook", "arguments"),
    [
        ("connection_opened", ("protocol",)),
        ("connection_closed", ("protocol", ConnectionLost())),
        ("connection_recovered", ("protocol",)),
        ("channel_closed", ("channel", ConnectionLost())),
        ("flow_changed", ("channel", False)),
        ("message_returned", ("channel", "message")),
        ("publish_confirmed", ("channel", 1, False)),
        ("publish_nacked", ("channel", 1, False)),
    ],
)
def test_what_is_told_elsewhere_as_well_is_not_logged(
    ear: Ear, hook: str, arguments: tuple[object, ...]
) -> None:
    assert getattr(Delegate(), hook)(*arguments) is None
    assert ear.heard == []


@pytest.mark.parametrize(
    ("hook", "arguments", "said"),
    [
        (
            "connection_blocked",
            ("<it>", "low on memory"),
            (LogLevel.warn, "<it> is blocked by the broker: low on memory"),
        ),
        ("connection_unblocked", ("<it>",), (LogLevel.info, "<it> is not blocked any more")),
        (
            "message_delivered",
            ("<channel>", "<delivery>"),
            (LogLevel.warn, "<delivery> has no consumer; it stays unsettled"),
        ),
        (
            "consumer_cancelled",
            ("<channel>", "tag"),
            (LogLevel.warn, "consumer tag on <channel> was cancelled by the broker"),
        ),
        (
            "unhandled",
            ("<channel>", "<event>"),
            (LogLevel.warn, "<channel>: nobody waits for <event>"),
        ),
    ],
)
def test_what_nobody_hears_of_otherwise_is_logged(
    ear: Ear, hook: str, arguments: tuple[object, ...], said: tuple[Any, str]
) -> None:
    assert getattr(Delegate(), hook)(*arguments) is None
    assert ear.heard == [said]
