"""What pytest gets from txamqpx: the fixture ``amqp_broker``, and what went over its wire when a test fails.

This is no module of the package, because pytest imports it wherever txamqpx is installed, whether it is used
or not: to import anything of the package runs all of ``import txamqpx``, which takes a quarter of a second.
Here nothing is imported but pytest until a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from txamqpx.broker.broker import Broker

__all__ = ["amqp_broker"]

FIXTURE = "amqp_broker"


@pytest.fixture
def amqp_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """An embedded broker of the test's own, on the reactor: ``await connect(amqp_broker.url)``.

    Parametrized indirectly it takes the options of ``Broker``::

        @pytest.mark.parametrize("amqp_broker", [{"profile": "rabbitmq-3.10"}], indirect=True)
    """
    from txamqpx.broker.broker import Broker
    from txamqpx.testing.running import close_broker

    broker = Broker(**getattr(request, "param", {}))
    yield broker
    close_broker(broker)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a test that has failed what went over its broker's wire."""
    report = yield
    arguments: dict[str, object] = getattr(item, "funcargs", {})
    if report.failed and FIXTURE in arguments:
        from txamqpx.broker.broker import Broker
        from txamqpx.testing.running import last_words

        broker = arguments[FIXTURE]
        if isinstance(broker, Broker):  # a project may have a fixture of that name that is something else
            report.sections.append((f"what went over the wire of {broker.url}", last_words(broker)))
    return report
