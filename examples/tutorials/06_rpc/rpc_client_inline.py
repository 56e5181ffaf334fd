"""Ask the server for a Fibonacci number.

The same as ``rpc_client.py``, with ``inlineCallbacks``.

python rpc_client_inline.py amqp://guest:guest@localhost [number]
"""

import sys
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx
from txamqpx.errors import CallTimeout, RemoteError


@inlineCallbacks
def main(reactor: IReactorCore, url: str, number: str = "30") -> Generator[Deferred[Any], Any, None]:
    client = yield txamqpx.connect(url)
    try:
        try:
            reply = yield client.call("rpc_queue", number.encode(), timeout=10)
        except (txamqpx.Unroutable, CallTimeout, RemoteError) as error:
            sys.exit(str(error))  # no such queue, nobody who answers, or no number
        print(f"fib({number}) = {int(reply.body)}")
    finally:
        yield client.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
