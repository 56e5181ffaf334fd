"""Send a line of a log under its severity to the exchange "direct_logs".

python emit_log_direct.py amqp://guest:guest@localhost [severity [words of the line]]
"""

import sys

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


async def main(reactor: IReactorCore, url: str, severity: str = "info", *words: str) -> None:
    line = " ".join(words) or "Hello World!"
    async with await txamqpx.connect(url) as client:
        await client.exchange_declare("direct_logs", "direct")
        try:
            await client.publish(line.encode(), exchange="direct_logs", routing_key=severity)
        except txamqpx.Unroutable:
            print("nobody listens to:", severity)
        else:
            print("sent:", severity, line)


if __name__ == "__main__":
    react(main, sys.argv[1:])
