from __future__ import annotations

import sys
from pathlib import Path

import pytest

from txamqpx.spec.codegen import main

# --------------------------------------------------------------------------- methods


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "spec").mkdir()
    return tmp_path


def test_the_command_writes_the_modules_and_then_has_nothing_to_do(package: Path) -> None:
    said: list[str] = []
    assert main([], said.append, package) == 0
    assert said == ["amqp0_9_1.py written\n", "channel_methods.py written\n"]
    real = Path(sys.modules["txamqpx.spec.codegen"].__file__ or "").parent.parent
    for name in ("spec/amqp0_9_1.py", "channel_methods.py"):
        assert (package / name).read_bytes() == (real / name).read_bytes()
    said.clear()
    assert main([], said.append, package) == main(["--check"], said.append, package) == 0
    assert said == []


def test_the_check_names_what_is_stale_and_leaves_it_alone(package: Path) -> None:
    said: list[str] = []
    main([], said.append, package)
    said.clear()
    (package / "spec" / "amqp0_9_1.py").write_text("# old\n")
    (package / "channel_methods.py").unlink()
    assert main(["--check"], said.append, package) == 1
    assert said == ["amqp0_9_1.py is stale\n", "channel_methods.py is stale\n"]
    assert (package / "spec" / "amqp0_9_1.py").read_text() == "# old\n"
    assert not (package / "channel_methods.py").exists()
