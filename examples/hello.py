"""Say hello to a broker: declare, publish with a confirm, consume, ack, close.

python examples/hello.py amqp://guest:guest@localhost
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

from txamqpx import BasicProperties, Delivery, connect_protocol


async def main(reactor: IReactorCore, url: str = "amqp://guest:guest@localhost") -> None:
    protocol = await connect_protocol(url, reactor=reactor)
    channel = await protocol.open_channel()
    queue = (await channel.queue_declare(exclusive=True)).queue

    await channel.confirm_select()
    persistent = BasicProperties(content_type="text/plain", delivery_mode=2)
    outcome = await channel.basic_publish(
        b"hello, world", routing_key=queue, properties=persistent, mandatory=True
    )
    print("published:", outcome)

    arrived: Deferred[Delivery] = Deferred()
    await channel.basic_qos(prefetch_count=10)
    await channel.basic_consume(queue, arrived.callback)
    delivery = await arrived
    print("came back:", delivery.body.decode(), delivery.properties)
    delivery.ack()

    await protocol.close()
    print("closed")


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
