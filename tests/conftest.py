"""What every test gets: a watch on the log, and the marks that make docs/conformance.md."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from twisted.logger import globalLogBeginner

from tests.conformance import Results, rows
from tests.logged import LoggedErrors

pytest_plugins = ["tests.brokers_plugin"]


# No test depends on how fast the machine is, or on what else it does.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--topologies", type=int, default=100, help="how many random ones test_routing.py builds"
    )
    parser.addoption("--routing-seed", type=int, help="the first of them; it is printed where a test fails")


def pytest_configure(config: pytest.Config) -> None:
    # The watch on the log collects what a test leaves behind, nothing older: 0.03 ms a test, where
    # all generations take 45. So what a test makes has to stay in the first two generations until it ends.
    gc.set_threshold(gc.get_threshold()[0], 1_000_000)
    # Until somebody begins, Twisted keeps the last 65,536 events, and with them everything that they mention.
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    # With pytest-xdist the controller sees all reports, a worker only its own.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(config.rootpath), "conformance results")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        rows(item)


@pytest.fixture(autouse=True)
def logged_errors() -> Iterator[LoggedErrors]:
    """Fail a test in which a failure was logged, or dropped with its Deferred, unless the test takes it."""
    errors = LoggedErrors()
    errors.start()
    yield errors
    left = errors.stop()
    if left:
        pytest.fail(f"logged, and not expected:\n{left}", pytrace=False)
