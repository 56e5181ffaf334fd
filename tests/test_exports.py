"""The house: the names at the root are few, in order, and cost no reactor; so are those of the kit."""

import subprocess
import sys

import pytest

import txamqpx
import txamqpx.testing


def test_the_names_are_in_order_and_few() -> None:
    assert list(txamqpx.__all__) == sorted(set(txamqpx.__all__))
    assert len(txamqpx.__all__) < 30


def test_every_name_is_there() -> None:
    assert [name for name in txamqpx.__all__ if not hasattr(txamqpx, name)] == []


def test_the_names_of_the_kit_are_in_order_and_there() -> None:
    names = txamqpx.testing.__all__
    assert list(names) == sorted(set(names))
    assert [name for name in names if not hasattr(txamqpx.testing, name)] == []


@pytest.mark.parametrize("package", ["txamqpx", "txamqpx.testing"])
def test_importing_installs_no_reactor_and_loads_no_broker(package: str) -> None:
    program = (
        f"import sys; from {package} import *;"
        "print([name for name in sys.modules if name in ('twisted.internet.reactor', 'txamqpx.broker')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
