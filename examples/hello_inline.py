"""The same as ``hello.py``, with ``inlineCallbacks``.

python examples/hello_inline.py amqp://guest:guest@localhost
"""

import sys
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

from txamqpx import BasicProperties, Delivery, connect_protocol


@inlineCallbacks
def main(
    reactor: IReactorCore, url: str = "amqp://guest:guest@localhost"
) -> Generator[Deferred[Any], Any, None]:
    protocol = yield connect_protocol(url, reactor=reactor)
    channel = yield protocol.open_channel()
    declared = yield channel.queue_declare(exclusive=True)

    yield channel.confirm_select()
    persistent = BasicProperties(content_type="text/plain", delivery_mode=2)
    outcome = yield channel.basic_publish(
        b"hello, world", routing_key=declared.queue, properties=persistent, mandatory=True
    )
    print("published:", outcome)

    arrived: Deferred[Delivery] = Deferred()
    yield channel.basic_qos(prefetch_count=10)
    yield channel.basic_consume(declared.queue, arrived.callback)
    delivery = yield arrived
    print("came back:", delivery.body.decode(), delivery.properties)
    delivery.ack()

    yield protocol.close()
    print("closed")


if __name__ == "__main__":
    react(main, sys.argv[1:])
