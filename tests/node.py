"""One Erlang node as a process of a test: started, killed, frozen and called into; it knows no RabbitMQ."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.erlang import Erlang, Guard
from tests.ports import reserve_port

START_TIMEOUT = 90
"""Seconds that a node may take to its first answer; two to five are usual, a loaded machine needs more."""

CALL_TIMEOUT = 30
"""Seconds that a call into a node may take; milliseconds are usual, but a frozen node never answers."""

FLAGS = (
    *("-noinput", "-boot", "start_sasl", "-start_epmd", "false"),
    *("-kernel", "inet_dist_use_interface", "{127,0,0,1}"),
    # Two schedulers that sleep when there is nothing to do: several nodes may share a small machine.
    *("+S", "2:2", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none", "+W", "w", "+B", "i"),
)


class NodeFailed(Exception):
    """Report what a node did not do, with the end of its logs."""


class ErlangNode(ABC):
    """Run one Erlang node of its own: directory, ports, cookie and port mapper are shared with nobody.

    The node and everything that belongs to it end with `end()`, with the `with` block, or with this
    process, however that ends. Calls into the node block for a few milliseconds and starts for seconds, so a
    test whose reactor has to go on meanwhile defers them to a thread.

    Args:
        erlang: The runtime that runs it.
        flags: What the emulator is given besides the flags that every node has.
        ports: Names for the ports to reserve, besides those of the distribution.

    Attributes:
        name: The node's name; nobody else's contains the part before the `@`.
        directory: Where everything of the node is; its logs are in `log/`.
        ports: The reserved ports on 127.0.0.1, by name; they stay the same when the node is restarted.
        ready_after: Seconds from the last start to the first answer.
    """

    def __init__(self, erlang: Erlang, *, flags: Sequence[str], ports: Sequence[str]) -> None:
        self._flags = flags
        self.name = f"t{secrets.token_hex(6)}@localhost"
        self.ready_after = 0.0
        self._beam: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._reserved = {name: reserve_port() for name in ("dist", "epmd", *ports)}
        self.ports: dict[str, int] = {name: port.getsockname()[1] for name, port in self._reserved.items()}
        self.directory = Path(tempfile.mkdtemp(prefix="txamqpx-", dir=_fast_directory()))
        self._guard = Guard(self.directory)
        for name in ("home", "log"):
            (self.directory / name).mkdir()
        cookie = self.directory / "home/.erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        programs = self.directory / "bin"
        # Made from nothing: no setting of the caller's own Erlang or RabbitMQ gets in.
        self.environment = {
            **erlang.launchers(programs),
            "PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.directory / "home"),
            "LANG": "C.UTF-8",
            "ERL_CRASH_DUMP": str(self.directory / "erl_crash.dump"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.ports["epmd"]),
        }

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.end()
            raise

    def __exit__(self, *exception: object) -> None:
        self.end()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} pid={self.pid} ports={self.ports}>"

    # Life -------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the node, and return when it is ready.

        Raises:
            NodeFailed: It runs already, ended, or was not ready in time; in the last two cases it is down.
        """
        if self._beam is not None:
            raise NodeFailed(f"{self!r} runs already")
        began = time.monotonic()
        try:
            if self._epmd is None:
                self._epmd = self._spawn("epmd", "-port", str(self.ports["epmd"]), "-address", "127.0.0.1")
                self._guard.hold(self._epmd)
                self._wait_for("its port mapper", self._epmd_listens, CALL_TIMEOUT, self._epmd)
            self._beam = self._spawn("erl", *FLAGS, *self._flags)
            self._guard.hold(self._epmd, self._beam)
            self._wait_for("it", self.answers, START_TIMEOUT, self._beam)
        except BaseException:
            self.kill9()
            raise
        self.ready_after = time.monotonic() - began
        return self

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the node that was started is ready, and it is this one that answers."""

    def stop(self) -> None:
        """Shut the node down in order, and keep its data for the next start.

        Raises:
            NodeFailed: It took too long, and was killed.
        """
        assert self._beam is not None
        self.thaw()
        self.call("init", "stop")
        # It is not reaped here: its number stays its own until the guard has let go of it.
        deadline = time.monotonic() + CALL_TIMEOUT
        while os.waitid(os.P_PID, self._beam.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > deadline:
                self.kill9()
                raise NodeFailed(f"{self!r} did not stop in {CALL_TIMEOUT} s{self.log_tail()}")
            time.sleep(0.02)
        self.kill9()

    def kill9(self) -> None:
        """Kill the node as a power cut would, and keep what is on its disk; a node that is down stays so."""
        if self._beam is None:
            return
        self._beam.kill()
        self._guard.hold(self._epmd)
        self._beam.wait()
        self._beam = None

    def restart(self) -> Self:
        """Stop the node in order if it runs, and start it again with the same data on the same ports."""
        if self._beam is not None:
            self.stop()
        return self.start()

    def freeze(self) -> None:
        """Make the node half open: its kernel goes on accepting connections, and it answers nothing."""
        assert self._beam is not None
        self._beam.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen node go on."""
        assert self._beam is not None
        self._beam.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill the node and its port mapper, and remove the directory; a second call does nothing."""
        self._guard.release()
        for process in (self._beam, self._epmd):
            if process is not None:
                process.wait()
        self._beam = self._epmd = None
        shutil.rmtree(self.directory, ignore_errors=True)
        for port in self._reserved.values():
            port.close()

    # What it is like --------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Return the process number of the node while it is up."""
        return self._beam.pid if self._beam else None

    def rss_mb(self) -> float:
        """Return the resident memory of the node in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def log_tail(self) -> str:
        """Return the end of each of the node's logs."""
        files = sorted(file for file in (self.directory / "log").iterdir() if file.is_file())
        return "".join(f"\n{file.name}:\n{file.read_text(errors='replace')[-1500:]}" for file in files)

    # Calls into it ----------------------------------------------------------------------------

    def call(self, module: str, function: str, *arguments: str) -> str:
        """Call an Erlang function in the node.

        Args:
            module: Its module.
            function: Its name.
            arguments: Erlang terms, as source.

        Returns:
            The result, as Erlang prints it.

        Raises:
            NodeFailed: The call raised, or the node did not answer.
        """
        result = self._erl_call("-a", f"{module} {function} [{', '.join(arguments)}]")
        if result.startswith("{badrpc,"):
            raise NodeFailed(f"{module}:{function} failed: {result}")
        return result

    def eval(self, expression: str) -> str:
        """Evaluate an Erlang expression in the node.

        Returns:
            The result, as Erlang prints it.

        Raises:
            NodeFailed: The expression is wrong or raised, or the node did not answer.
        """
        result = self._erl_call("-e", stdin=f"{expression.strip().rstrip('.')}.\n")
        if not (result.startswith("{ok, ") and result.endswith("}")):
            raise NodeFailed(f"{expression!r} failed: {result}")
        return result[len("{ok, ") : -1]

    def run(self, program: str, *arguments: str, stdin: str = "") -> str:
        """Run one of Erlang's programs in the node's environment, and return what it printed.

        Raises:
            NodeFailed: It ended with an error, or did not end.
        """
        try:
            done = subprocess.run(
                [self.directory / "bin" / program, *arguments],
                env=self.environment,
                cwd=self.directory,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=2 * CALL_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NodeFailed(f"{self!r} did not answer {program} {arguments}") from error
        if done.returncode:
            raise NodeFailed(
                f"{program} {arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout.strip()

    # How it is done ---------------------------------------------------------------------------

    def _erl_call(self, *arguments: str, stdin: str = "") -> str:
        # The node turns away a second caller of a name that is still connected; erl_call's own names repeat.
        caller = f"c{secrets.token_hex(6)}"
        where = ("-h", caller, "-n", self.name, "-timeout", str(CALL_TIMEOUT))
        return self.run("erl_call", *where, *arguments, stdin=stdin)

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.directory / "log/console").open("ab") as console:
            return subprocess.Popen(
                [self.directory / "bin" / program, *arguments],
                env=self.environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    def _epmd_listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.ports["epmd"]), timeout=1).close()
        except OSError:
            return False
        return True

    def _wait_for(
        self, what: str, ready: Callable[[], bool], seconds: float, process: subprocess.Popen[bytes]
    ) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None:
                raise NodeFailed(f"{self!r}: {what} ended with {process.returncode}{self.log_tail()}")
            if time.monotonic() > deadline:
                raise NodeFailed(f"{self!r}: {what} was not ready in {seconds} s{self.log_tail()}")
            time.sleep(0.02)


def _fast_directory() -> Path | None:
    """Return the memory file system if it can take a node: a start is a third faster on it."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 512 * 2**20:
        return memory
    return None
