import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from tests.logged import LoggedErrors

ROOT = Path(__file__).parent.parent

log = Logger()


def test_a_failure_that_nobody_listened_to_is_seen(logged_errors: LoggedErrors) -> None:
    fail(ZeroDivisionError("dropped"))
    (failure,) = logged_errors.flush(ZeroDivisionError)
    assert str(failure.value) == "dropped"


def test_a_failure_in_a_cycle_is_seen(logged_errors: LoggedErrors) -> None:
    d: Deferred[object] = fail(ZeroDivisionError())
    knot: list[object] = [d]
    knot.append(knot)
    del d, knot
    assert len(logged_errors.flush()) == 1


def test_a_failure_that_was_handled_is_not_seen(logged_errors: LoggedErrors) -> None:
    fail(ZeroDivisionError()).addErrback(lambda failure: None)
    assert logged_errors.flush() == []


def test_flushing_takes_only_what_it_names(logged_errors: LoggedErrors) -> None:
    other = LoggedErrors()
    other.start()
    for error in (KeyError("first"), ValueError("second"), KeyError("third")):
        try:
            raise error
        except (KeyError, ValueError):
            log.failure("while testing")
    assert [str(failure.value) for failure in other.flush(KeyError)] == ["'first'", "'third'"]
    left = other.stop()
    assert "ValueError: second" in left
    assert "KeyError" not in left
    assert len(logged_errors.flush()) == 3


def test_the_fixture_fails_a_test_that_drops_a_failure(tmp_path: Path) -> None:
    careless = tmp_path / "test_careless.py"
    careless.write_text(
        "from twisted.internet.defer import fail\n"
        "from tests.conftest import logged_errors\n"
        "def test_good(): pass\n"
        "def test_careless(): fail(ZeroDivisionError('dropped'))\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    done = subprocess.run([*command, str(careless)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "ZeroDivisionError: dropped" in done.stdout, done.stdout
    assert "ERROR at teardown of test_careless" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
