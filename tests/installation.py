"""Find an installed RabbitMQ, or make one in a folder from another Debian release."""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.erlang import Erlang

SYSTEM = Path("/")
SUITES = {"3.10": "bookworm", "4.0": "trixie", "4.3": "forky"}
"""The Debian release that carries each RabbitMQ release."""

DEFAULT = "3.10"
"""What is looked for where none is named."""


class BrokerMissing(Exception):
    """Say why a broker cannot be had on this machine, and what would bring it."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Point to one RabbitMQ and the Erlang that runs it.

    Attributes:
        version: The full version, for example `3.10.8`.
        home: The directory that holds `plugins/` and `escript/`.
        erlang: The runtime that this RabbitMQ was built for.
    """

    version: str
    home: Path
    erlang: Erlang

    @property
    def release(self) -> str:
        """Return the first two numbers of the version."""
        return ".".join(self.version.split(".")[:2])

    def applications(self, names: Iterable[str]) -> dict[str, Path]:
        """Collect the directories of the named Erlang applications and of all that they need.

        A node that is shown these alone, and not all seventy, starts more than twice as fast.

        Args:
            names: The applications to begin with.

        Returns:
            Each application's directory, by name; those that come with Erlang itself are left out.

        Raises:
            BrokerMissing: A named application is not part of this installation.
        """
        found: dict[str, Path] = {}
        wanted = list(names)
        roots = set(wanted)
        while wanted:
            name = wanted.pop()
            if name in found:
                continue
            for directory in self.home.glob(f"plugins/{name}-[0-9]*"):
                found[name] = directory
                wanted += self._needs(directory / "ebin" / f"{name}.app")
            if name in roots and name not in found:
                raise BrokerMissing(f"RabbitMQ {self.version} has no plugin {name}")
        return found

    @staticmethod
    def _needs(resource: Path) -> list[str]:
        entry = re.search(r"\{\s*applications\s*,\s*\[(.*?)\]", resource.read_text(), re.DOTALL)
        return re.findall(r"\w+", entry[1]) if entry else []


def installation(release: str | None = None) -> Installation:
    """Return the RabbitMQ of a release: the system's own, or one in a folder, which is made if it can be.

    Args:
        release: The first two numbers of the version, for example `4.3`; left out, it is whichever the
            system has.

    Raises:
        BrokerMissing: It is not there and cannot be made; the message says what to install.
    """
    here = _installed(SYSTEM)
    if here and release in {None, here.release}:
        return here
    release = release or DEFAULT
    folder = Path(os.environ.get(_variable(release)) or _cache() / f"rabbitmq-{release}")
    there = _installed(folder)
    if there is None:
        with _locked(folder):
            if not _installed(folder):
                _make(folder, release, here)
        there = _installed(folder)
    if there is None or there.release != release:
        raise BrokerMissing(f"{folder} holds RabbitMQ {there and there.version}, not {release}")
    return there


def _installed(root: Path) -> Installation | None:
    homes = sorted((root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    if not homes:
        return None
    if root == SYSTEM:
        erl = shutil.which("erl")
        if erl is None:
            return None
        erlang = Erlang(Path(erl).resolve().parents[1])
    else:
        (loader,) = (root / "usr/lib").glob("*-linux-gnu*/ld-linux*.so.*")
        erlang = Erlang(root / "usr/lib/erlang", (str(loader), "--library-path", str(loader.parent)))
    return Installation(homes[-1].name.removeprefix("rabbitmq_server-"), homes[-1], erlang)


def _variable(release: str) -> str:
    return f"TXAMQPX_RABBITMQ{release.replace('.', '')}_ROOT"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "txamqpx"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time make a folder: pytest-xdist starts several at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path, release: str, here: Installation | None) -> None:
    """Install a Debian with this RabbitMQ, beside the folder's name so that half of one is never used."""
    suite = SUITES.get(release)
    installed = f"RabbitMQ {here.version} is installed; " if here else ""
    advice = (
        f"RabbitMQ {release} is missing: {installed}apt-get install rabbitmq-server on Debian {suite}, or "
        f"apt-get install debootstrap and run once as root to have it made in {folder} ({_variable(release)})"
    )
    if suite is None:
        raise BrokerMissing(
            f"no Debian release is known to carry RabbitMQ {release}; known: {', '.join(SUITES)}"
        )
    if os.geteuid() != 0 or shutil.which("debootstrap", path="/usr/sbin:/usr/bin") is None:
        raise BrokerMissing(advice)
    mirror = _mirror()
    if mirror is None:
        raise BrokerMissing(f"{advice}; apt knows no Debian mirror to make it from")
    partial = folder.with_name(f"{folder.name}.partial")
    log = folder.with_name(f"{folder.name}.log")
    _remove(partial)
    command = ["debootstrap", "--variant=minbase", "--include=rabbitmq-server", suite, str(partial), mirror]
    with log.open("wb") as output:
        done = subprocess.run(
            [*command, "/usr/share/debootstrap/scripts/sid"],
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise BrokerMissing(f"RabbitMQ {release} could not be made in {folder}: see {log}")
    partial.rename(folder)


def _mirror() -> str | None:
    """Return the Debian mirror that apt uses already, so that no address has to be written down anywhere."""
    policy = subprocess.run(["apt-cache", "policy"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"https?://\S+/debian(?=\s|/\s)", policy)
    return found[0] if found else None


def _remove(folder: Path) -> None:
    """Remove what an interrupted attempt left, unmounting first what it may have mounted there."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed(mounts):
        if Path(mount).is_relative_to(folder.resolve()):
            subprocess.run(["umount", mount], check=True)
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)
