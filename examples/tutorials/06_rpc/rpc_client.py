"""Ask the server for a Fibonacci number.

python rpc_client.py amqp://guest:guest@localhost [number]
"""

import sys

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx
from txamqpx.errors import CallTimeout, RemoteError


async def main(reactor: IReactorCore, url: str, number: str = "30") -> None:
    async with await txamqpx.connect(url) as client:
        try:
            reply = await client.call("rpc_queue", number.encode(), timeout=10)
        except (txamqpx.Unroutable, CallTimeout, RemoteError) as error:
            sys.exit(str(error))  # no such queue, nobody who answers, or no number
        print(f"fib({number}) = {int(reply.body)}")


if __name__ == "__main__":
    react(main, sys.argv[1:])
