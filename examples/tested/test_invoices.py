"""Tests of invoices.py: ten minutes of attempts take a few hundredths of a second, and no broker.

python -m twisted.trial test_invoices
python -m pytest test_invoices.py
"""

from invoices import ASIDE, QUEUE, Busy, consume
from twisted.trial.unittest import TestCase

from txamqpx.testing import running


class InvoiceTests(TestCase):
    async def test_an_invoice_is_sent_again_until_it_is_taken(self) -> None:
        attempts: list[float] = []

        async def send(invoice: bytes) -> None:
            attempts.append(t.clock.seconds())
            if len(attempts) < 3:
                raise Busy

        async with running() as t:
            client = await t.connect()
            await consume(client, send)
            await client.publish(b"invoice", routing_key=QUEUE, content_type="application/pdf")
            await t.advance("10m")
            assert attempts == [0, 60, 120]
            assert (t.queue(QUEUE).ready, t.queue(QUEUE).unacked) == (0, 0)

    async def test_an_invoice_that_is_never_taken_is_put_aside(self) -> None:
        async def send(invoice: bytes) -> None:
            raise Busy

        async with running() as t:
            client = await t.connect()
            await consume(client, send)
            await client.publish(b"invoice", routing_key=QUEUE, content_type="application/pdf")
            await t.advance("10m")
            [aside] = t.queue(ASIDE).messages
            assert aside.body == b"invoice"
            assert aside.headers["x-first-death-reason"] == "rejected"

    async def test_what_is_no_invoice_is_put_aside_at_once(self) -> None:
        sent: list[bytes] = []

        async def send(invoice: bytes) -> None:
            sent.append(invoice)

        async with running() as t:
            client = await t.connect()
            await consume(client, send)
            await client.publish(b"a letter", routing_key=QUEUE)
            await t.settled()
            assert [message.body for message in t.queue(ASIDE).messages] == [b"a letter"]
            assert sent == []
