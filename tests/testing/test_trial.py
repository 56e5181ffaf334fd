"""The kit under trial: whatever a user's TestCase does with it, on trial's own reactor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

CASES = """
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from txamqpx.consuming import RetryLater
from txamqpx.errors import NotFound
from txamqpx.spec.amqp0_9_1 import ChannelClose, QueueDeclare
from txamqpx.testing import HandPool, delivery, failure_of, is_pending, running, scripted, success_of


class Synchronous(SynchronousTestCase):
    def test_a_delivery(self):
        message = delivery(b"body")
        message.reject(requeue=False)
        self.assertEqual(message.settlement, "reject")

    def test_a_script(self):
        peer = scripted()
        peer.open()
        declared = peer.open_channel().queue_declare("q", passive=True)
        peer.expect(QueueDeclare)
        self.assertTrue(is_pending(declared))
        peer.send(1, ChannelClose(404, "NOT_FOUND - no queue 'q' in vhost '/'", 50, 10))
        self.assertEqual(failure_of(declared, NotFound).queue, "q")

    def test_threads(self):
        pool = HandPool(clock := Clock())
        summed = deferToThreadPool(clock, pool, sum, [1, 2])
        pool.run()
        self.assertEqual(success_of(summed), 3)

    def test_by_hand(self):
        with running() as t:
            client = t.run(t.connect())
            self.assertRaises(NotFound, t.run, client.queue_declare("q", passive=True))


class OnTheReactor(TestCase):
    async def test_virtual_time(self):
        attempts = []

        async def handle(message):
            await deferLater(t.clock, 1)
            attempts.append(t.clock.seconds())
            if len(attempts) < 3:
                raise RetryLater(60)

        def in_a_thread(message):
            attempts.append("in a thread")

        async with running() as t:
            client = await t.connect()
            for queue in ("q", "threads"):
                await client.queue_declare(queue, durable=True)
            await client.consume("q", handle)
            await client.publish(b"m", routing_key="q")
            await t.advance("10m")
            await client.consume("threads", in_a_thread, thread=True)
            await client.publish(b"m", routing_key="threads")
            await t.settled()
        self.assertEqual(attempts, [1, 62, 123, "in a thread"])

    async def test_a_block_that_is_left_early(self):
        try:
            async with running() as t:
                client = await t.connect()
                await client.queue_declare("q", durable=True)
                await client.consume("q", print)
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        self.assertFalse(client.is_open)
"""
"""Six tests; trial itself looks for what they leave on the reactor, and for errors in the log."""


def test_the_kit_works_under_trial(tmp_path: Path) -> None:
    (tmp_path / "test_cases.py").write_text(CASES)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "twisted.trial", "test_cases"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "PASSED (successes=6)" in done.stdout
