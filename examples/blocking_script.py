"""A plain script: no reactor, no Deferreds, and threads that do the work.

python examples/blocking_script.py amqp://guest:guest@localhost
"""

import sys
from queue import SimpleQueue

from txamqpx import blocking
from txamqpx.blocking import Delivery
from txamqpx.errors import Unroutable


def main(url: str = "amqp://guest:guest@localhost") -> None:
    squares: SimpleQueue[int] = SimpleQueue()

    def work(delivery: Delivery) -> None:
        squares.put(int(delivery.body) ** 2)  # the return is the ack

    with blocking.connect(url) as client:
        queue = client.queue_declare(exclusive=True).queue
        with client.consume(queue, work, concurrency=3, prefetch=30):
            with client.publisher() as publisher:
                summary = publisher.publish_many((b"%d" % number for number in range(100)), routing_key=queue)
            print("published:", summary.confirmed)
            print("sum of squares:", sum(squares.get(timeout=60.0) for _ in range(summary.total)))

        begun = [client.begin.publish(b"last", routing_key=key) for key in (queue, f"{queue} and nobody")]
        for operation in begun:
            try:
                print("published:", operation.result(timeout=60.0))
            except Unroutable as error:
                print("not published:", error.reply_text)
        for delivery in client.deliveries(queue):
            print("came back:", delivery.body, delivery.ack())
            break
    print("closed")


if __name__ == "__main__":
    main(*sys.argv[1:])
