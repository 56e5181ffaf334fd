"""Declare many exclusive queues at once: `python -m benchmarks.figures.declares CLIENT URL COUNT`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from twisted.internet.defer import gatherResults

CLIENTS = ("txamqpx", "txamqpx-channel", "pika-twisted", "aio-pika", "puka")


def _loop_of(client: str) -> Callable[..., object]:
    if client == "aio-pika":
        import asyncio

        return lambda main: asyncio.run(main())
    from benchmarks.peers import loop

    return loop.run


async def _txamqpx(url: str, count: int) -> None:
    import txamqpx

    client = await txamqpx.connect(url)
    with Watch():
        await gatherResults([client.queue_declare(f"d{n}", exclusive=True) for n in range(count)])
    await client.close()


async def _txamqpx_channel(url: str, count: int) -> None:
    from txamqpx.endpoints import connect_protocol

    protocol = await connect_protocol(url)
    channel = await protocol.open_channel()
    with Watch():
        await gatherResults([channel.queue_declare(f"d{n}", exclusive=True) for n in range(count)])
    await protocol.close()


async def _pika_twisted(url: str, count: int) -> None:
    from pika import URLParameters
    from pika.adapters.twisted_connection import TwistedProtocolConnection
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ClientEndpoint
    from twisted.internet.protocol import Factory

    parameters = URLParameters(url)
    endpoint = TCP4ClientEndpoint(reactor, parameters.host, parameters.port)
    protocol: Any = await endpoint.connect(Factory.forProtocol(lambda: TwistedProtocolConnection(parameters)))
    await protocol.ready
    channel = await protocol.channel()
    with Watch():
        await gatherResults([channel.queue_declare(f"d{n}", exclusive=True) for n in range(count)])
    await protocol.close()


async def _aio_pika(url: str, count: int) -> None:
    import asyncio

    import aio_pika

    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    with Watch():
        await asyncio.gather(*[channel.declare_queue(f"d{n}", exclusive=True) for n in range(count)])
    await connection.close()


def _puka(url: str, count: int) -> None:
    puka: Any = import_module("puka")  # which has no types
    client = puka.Client(url)
    client.wait(client.connect())
    with Watch():
        # It has no exclusive queues: these are transient, and deleted again outside of the measurement.
        promises = [client.queue_declare(queue=f"p{n}") for n in range(count)]
        for promise in promises:
            client.wait(promise)
    for promise in [client.queue_delete(queue=f"p{n}") for n in range(count)]:
        client.wait(promise)
    client.wait(client.close())


class Watch:
    """Prints the wall and CPU seconds of a block as JSON."""

    def __enter__(self) -> None:
        self._begun = time.perf_counter(), time.process_time()

    def __exit__(self, *exc_info: object) -> None:
        wall, cpu = time.perf_counter() - self._begun[0], time.process_time() - self._begun[1]
        json.dump({"wall": wall, "cpu": cpu}, sys.stdout)


_WAYS: dict[str, Callable[[str, int], Awaitable[None]]] = {
    "txamqpx": _txamqpx,
    "txamqpx-channel": _txamqpx_channel,
    "pika-twisted": _pika_twisted,
    "aio-pika": _aio_pika,
}


def main(client: str, url: str, count: int) -> None:
    """Measure one client."""
    if client == "puka":
        _puka(url, count)
    else:
        _loop_of(client)(lambda: _WAYS[client](url, count))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
