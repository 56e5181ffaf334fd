"""The house: what is built can be installed, brings what it needs, and leaves Twisted whole when it goes.

A plugin and a cache of Twisted's are planted in a copy of the source, so that the way of a plugin is held
whatever `twisted/plugins/` holds.
"""

import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PLUGIN = """\
from twisted.application.service import ServiceMaker

planted = ServiceMaker("planted", "planted", "A planted plugin.", "planted")
"""

pytestmark = pytest.mark.packaging


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what a distribution is built from: a build in the checkout would leave its own files there."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "pytest_txamqpx.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("txamqpx", "twisted"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    plugins = copy / "twisted" / "plugins"
    (plugins / "planted_plugin.py").write_text(PLUGIN)
    (plugins / "dropin.cache").write_bytes(b"a pickle of somebody's machine")
    return copy


@pytest.fixture(scope="module")
def distributions(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and from the sdist the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source, cwd=source)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (wheel,) = distributions.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one virtual environment for all, with nothing of ours in it; return its programs."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    return folder / "bin"


def files_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def assert_whole(environment: Path, directory: Path) -> None:
    """Check that Twisted is there and that we are not."""
    program = (
        "import twisted.internet.reactor, twisted.plugins, twisted, importlib.util;"
        "print(twisted.__version__ != '', importlib.util.find_spec('txamqpx'))"
    )
    assert run(environment / "python", "-c", program, cwd=directory) == "True None\n"


def assert_works(environment: Path, directory: Path) -> None:
    """Check that we are there with our data, that the reactor still starts, and that plugins are found."""
    program = (
        "import twisted.internet.reactor, txamqpx, importlib.metadata as metadata;"
        "from txamqpx.spec.xmlspec import bundled;"
        "print(metadata.version('txamqpx') == txamqpx.__version__, bundled('0-9-1').major)"
    )
    assert run(environment / "python", "-c", program, cwd=directory) == "True 0\n"
    program = (
        "import importlib.metadata as metadata, importlib.util as util;"
        "(found,) = metadata.entry_points(group='pytest11', name='txamqpx');"
        "print(found.value, util.find_spec(found.module) is not None)"
    )
    assert run(environment / "python", "-c", program, cwd=directory) == "pytest_txamqpx True\n"
    assert "A planted plugin." in run(environment / "twist", "--help", cwd=directory)


def test_the_wheel_holds_no_init_that_would_overwrite_twisted_s(wheel: Path) -> None:
    ours = [name for name in files_of(wheel) if name.startswith("twisted/")]
    assert ours
    assert [name for name in ours if "__init__" in name] == []


def test_the_wheel_holds_every_plugin_and_nothing_else_of_theirs(wheel: Path, source: Path) -> None:
    plugins = {f"twisted/plugins/{path.name}" for path in (source / "twisted" / "plugins").glob("*.py")}
    assert {name for name in files_of(wheel) if name.startswith("twisted/")} == plugins


def test_the_wheel_holds_every_module_the_types_mark_and_the_specifications(wheel: Path) -> None:
    ours = {
        str(path.relative_to(ROOT))
        for pattern in ("*.py", "*.xml", "py.typed")
        for path in (ROOT / "txamqpx").rglob(pattern)
    }
    assert {"txamqpx/py.typed", "txamqpx/spec/data/amqp0-9-1.xml"} <= ours
    assert {name for name in files_of(wheel) if name.startswith("txamqpx/")} == ours


def test_the_wheel_holds_nothing_at_the_top_but_the_two_packages_and_pytest_s_module(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in files_of(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "pytest_txamqpx.py",
        "txamqpx",
        "twisted",
    }


def test_the_sdist_holds_the_source_and_no_cache(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "txamqpx/spec/data/amqp0-9-1.xml"} <= names
    assert [name for name in names if name.endswith("dropin.cache")] == []


@pytest.mark.parametrize("editable", [False, True], ids=["wheel", "editable"])
def test_an_installation_works_and_goes_without_a_trace(
    editable: bool, environment: Path, wheel: Path, source: Path, tmp_path: Path
) -> None:
    what = ["--editable", source] if editable else [wheel]
    run(environment / "pip", "install", "--quiet", *what, cwd=tmp_path)
    assert_works(environment, tmp_path)
    run(environment / "pip", "uninstall", "--yes", "txamqpx", cwd=tmp_path)
    assert_whole(environment, tmp_path)
