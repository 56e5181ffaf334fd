"""What every test gets: a watch on the log, and the marks that make docs/conformance.md."""

import gc
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from twisted.logger import globalLogBeginner

from tests.conformance import Results, rows
from tests.logged import LoggedErrors


def pytest_configure(config: pytest.Config) -> None:
    # Until somebody begins, Twisted keeps the last 65,536 events, and with them everything that they mention.
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    if not hasattr(
        config, "workerinput"
    ):  # with pytest-xdist the controller sees all reports, a worker only its own
        config.pluginmanager.register(Results(config.rootpath), "conformance results")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        rows(item)


def pytest_collection_finish() -> None:
    # The watch on the log collects garbage after each test. What is there now stays for good, so it is taken
    # out of the collector's sight: NN ms a test in place of 60.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def logged_errors() -> Iterator[LoggedErrors]:
    """Fail a test in which a failure was logged, or dropped with its Deferred, unless the test takes it."""
    errors = LoggedErrors()
    errors.start()
    yield errors
    left = errors.stop()
    if left:
        pytest.fail(f"logged, and not expected:\n{left}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write into the report on which broker the test ran, where pytest-xdist carries it along."""
    report = yield
    if isinstance(item, pytest.Function) and "broker" in item.fixturenames:
        broker: Any = item.funcargs.get("broker")
        report.user_properties.append(("broker", f"RabbitMQ {broker.version}" if broker else "no broker"))
    return report
