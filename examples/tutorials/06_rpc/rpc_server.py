"""Answer requests in the queue "rpc_queue" with Fibonacci numbers, until Ctrl-C.

python rpc_server.py amqp://guest:guest@localhost
"""

import sys

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


def fib(n: int) -> int:
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def answer(request: txamqpx.Delivery) -> str:
    n = int(request.body)
    print(f"asked for: fib({n})")
    return str(fib(n))  # what is raised here reaches whoever has asked, as RemoteError


async def main(reactor: IReactorCore, url: str) -> None:
    client = await txamqpx.connect(url)
    reactor.addSystemEventTrigger("before", "shutdown", client.close)  # Ctrl-C: finish what was begun
    await client.queue_declare("rpc_queue", durable=True, arguments={"x-queue-type": "quorum"})
    # In a thread, as it computes for long: here it would keep everything else waiting.
    server = await client.serve("rpc_queue", answer, prefetch=1, thread=True)
    print("waiting for requests; Ctrl-C ends it")
    reason = await server.closed  # None after Ctrl-C
    if reason is not None:
        raise reason


if __name__ == "__main__":
    react(main, sys.argv[1:])
