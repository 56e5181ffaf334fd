"""The house: the names at the root are few, in order, and cost no reactor."""

import subprocess
import sys

import txamqpx


def test_the_names_are_in_order_and_few() -> None:
    assert list(txamqpx.__all__) == sorted(set(txamqpx.__all__))
    assert len(txamqpx.__all__) < 30


def test_every_name_is_there() -> None:
    assert [name for name in txamqpx.__all__ if not hasattr(txamqpx, name)] == []


def test_importing_installs_no_reactor() -> None:
    names = ", ".join(txamqpx.__all__)
    program = f"import sys; from txamqpx import {names}; print('twisted.internet.reactor' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
