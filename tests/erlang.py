"""Erlang's programs as a test starts them: from the system, or out of a folder that holds another Debian."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("beam.smp", "epmd", "erl_call", "erl_child_setup", "erlexec", "escript", "inet_gethost")


@dataclass(frozen=True, slots=True)
class Erlang:
    """Say where one Erlang runtime lives, and what loads its programs.

    Attributes:
        root: The runtime's own directory, `.../lib/erlang`.
        loader: The command that comes before each program. Empty for the system's Erlang; for one that was
            built against another C library it is that library's own dynamic loader, so that the programs run
            without chroot, mounts or root.
    """

    root: Path
    loader: tuple[str, ...] = ()

    def launchers(self, directory: Path) -> dict[str, str]:
        """Write one executable per program, and return the variables that make Erlang use them.

        Erlang starts its own programs by path from BINDIR; each one has to come back through the loader.

        Args:
            directory: Where the executables go; it is created.

        Returns:
            The environment for whatever is started from that directory.
        """
        directory.mkdir()
        (binaries,) = self.root.glob("erts-*/bin")
        for program in PROGRAMS:
            command = [*self.loader, "--argv0", program] if self.loader else []
            self._script(directory / program, [*command, str(binaries / program)])
        self._script(directory / "erl", [str(directory / "erlexec")])
        return {
            "ROOTDIR": str(self.root),
            "BINDIR": str(directory),
            "EMU": "beam",
            "PROGNAME": "erl",
            "ESCRIPT_EMULATOR": str(directory / "erl"),
        }

    @staticmethod
    def _script(path: Path, command: list[str]) -> None:
        quoted = " ".join(f"'{word}'" for word in command)
        path.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
        path.chmod(0o755)


class Guard:
    """Kill processes and remove a directory as soon as this process is gone, however it went.

    A shell in a session of its own holds the other end of a pipe. Its end of file comes with a normal exit,
    with Ctrl-C, and with a kill -9 that no `atexit` would live to see.
    """

    _SCRIPT = 'while read -r line; do pids=$line; done; [ -z "$pids" ] || kill -9 $pids; rm -rf "$1"'

    def __init__(self, directory: Path) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", self._SCRIPT, "guard", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def hold(self, *processes: subprocess.Popen[bytes] | None) -> None:
        """Name the processes to end; the list takes the place of the earlier one.

        Take a process off the list before it is waited for: from then on its number may belong to another.
        """
        assert self._shell.stdin is not None
        self._shell.stdin.write(b"%s\n" % b" ".join(b"%d" % process.pid for process in processes if process))
        self._shell.stdin.flush()

    def release(self) -> None:
        """End everything now, and return when it is done."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait()
