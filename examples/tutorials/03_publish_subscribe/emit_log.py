"""Send a line of a log to whoever listens to the exchange "logs".

python emit_log.py amqp://guest:guest@localhost [words of the line]
"""

import sys

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


async def main(reactor: IReactorCore, url: str, *words: str) -> None:
    line = " ".join(words) or "info: Hello World!"
    async with await txamqpx.connect(url) as client:
        await client.exchange_declare("logs", "fanout")
        # Not mandatory: that nobody listens is no error here.
        await client.publish(line.encode(), exchange="logs", mandatory=False)
        print("sent:", line)


if __name__ == "__main__":
    react(main, sys.argv[1:])
