"""Compile and start the sink, and hear what it counted."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import attrs

SOURCE = Path(__file__).with_name("sink.c")
FLAGS = ("-O2", "-pthread")


class SinkFailed(Exception):
    """The sink could not be built or ended before it should."""


@attrs.frozen
class Count:
    """Hold what the sink saw on one connection, from the handshake to its end.

    `clean` tells whether the client closed it as the protocol asks; `fault` names what the client did wrong.
    """

    published: int
    published_bytes: int
    confirmed: int
    delivered: int
    acked: int
    clean: bool
    fault: str


def cache_directory() -> Path:
    """Return where the compiled sink is kept: outside of the repository, as it fits one machine only."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "txamqpx"


def compiled(source: Path = SOURCE, cache: Path | None = None) -> Path:
    """Return the sink's program, compiling it when this source was never compiled before.

    The name holds a digest of the source, so a change is never measured with yesterday's sink; the program
    appears under its name in one step, so two suites may start together.

    Raises:
        SinkFailed: There is no C compiler, or it refused the source.
    """
    cache = cache or cache_directory()
    program = cache / f"sink-{hashlib.sha256(source.read_bytes() + repr(FLAGS).encode()).hexdigest()[:16]}"
    if program.exists():
        return program
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        fresh = Path(scratch) / "sink"
        command = [os.environ.get("CC", "gcc"), *FLAGS, "-o", str(fresh), str(source)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError as missing:
            raise SinkFailed(f"no C compiler: {command[0]} (set CC)") from missing
        except subprocess.CalledProcessError as refused:
            raise SinkFailed(f"{' '.join(command)}:\n{refused.stderr}") from refused
        fresh.replace(program)
    return program


class Sink:
    """Run one sink for the length of a `with` block; it ends by itself when this process does."""

    port: int

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [str(compiled())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self._line()["port"])
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate(timeout=10)

    def url(self, vhost: str = "/") -> str:
        """Return the URL of a virtual host on this sink; `single` confirms each publish by itself."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost.replace('/', '%2F')}"

    def next_count(self) -> Count:
        """Return the counts of the next connection that has ended; wait until one has."""
        return Count(**self._line())

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SinkFailed(f"the sink ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
