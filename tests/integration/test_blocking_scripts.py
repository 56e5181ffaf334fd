"""Scripts that use the blocking client, each in a process of its own: how they begin, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.brokers_plugin import Vhost
from tests.integration.support import PATIENCE

ROOT = Path(__file__).parent.parent.parent

BEGINNING = """
import sys
from txamqpx import blocking
client = blocking.connect(sys.argv[1])
client.queue_declare("jobs", durable=True)
"""


def start(script: str, vhost: Vhost, beginning: str = BEGINNING) -> subprocess.Popen[str]:
    """Start a script as a user would; Python's warnings are errors."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", beginning + dedent(script), vhost.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def run(script: str, vhost: Vhost, beginning: str = BEGINNING) -> tuple[int, str, str]:
    """Run a script to its end; return its exit code, what it printed, and its errors."""
    process = start(script, vhost, beginning)
    try:
        printed, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"it hangs: {process.communicate()}")
    return process.returncode, printed, errors


def in_queue(vhost: Vhost) -> int:
    """Return how many messages are ready in the scripts' queue."""
    script = "print([client.queue_declare('jobs', durable=True).message_count for _ in range(2)][1])"
    code, printed, errors = run(script, vhost)
    assert (code, errors) == (0, "")
    return int(printed)


# --------------------------------------------------------------------------- the beginning


def test_the_first_connect_starts_the_reactor(vhost: Vhost) -> None:
    script = """
        import sys, threading
        from txamqpx import blocking

        assert "twisted.internet.reactor" not in sys.modules
        with blocking.connect(sys.argv[1]) as first, blocking.connect(sys.argv[1]) as second:
            assert first.server == second.server
            names = sorted(thread.name for thread in threading.enumerate())
            print([name for name in names if name.startswith("txamqpx")])
        with blocking.connect(sys.argv[1]) as third:
            print(third.is_open)
        print(third.is_open)
    """
    expected = "['txamqpx callbacks', 'txamqpx reactor']\nTrue\nFalse\n"
    assert run(script, vhost, "") == (0, expected, "")


def test_a_reactor_that_has_run_before_is_named(vhost: Vhost) -> None:
    script = """
        import sys
        from twisted.internet import reactor
        from txamqpx import blocking, errors

        reactor.callWhenRunning(reactor.stop)
        reactor.run()
        try:
            blocking.connect(sys.argv[1])
        except errors.ReactorStopped as error:
            print(error)
    """
    assert run(script, vhost, "") == (0, "the reactor has run in this process, and cannot run again\n", "")


def test_a_forked_process_is_told_to_connect_for_itself(vhost: Vhost) -> None:
    script = """
        import os
        from txamqpx.errors import ForkedProcess

        child = os.fork()
        if not child:
            for call in (lambda: client.queue_declare("jobs"), lambda: blocking.connect(sys.argv[1])):
                try:
                    call()
                except ForkedProcess as error:
                    print(str(os.getppid()) in str(error), flush=True)
            sys.exit(7)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, client.queue_declare("jobs", durable=True).queue)
    """
    assert run(script, vhost) == (0, "True\nTrue\n7 jobs\n", "")


def test_a_process_that_was_forked_before_may_connect(vhost: Vhost) -> None:
    script = """
        import os, sys
        from txamqpx import blocking

        child = os.fork()
        with blocking.connect(sys.argv[1]) as client:
            client.queue_declare("jobs", durable=True)
            client.publish(b"hello", routing_key="jobs")
        if child:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(script, vhost, "") == (0, "0\n", "")
    assert in_queue(vhost) == 2


# --------------------------------------------------------------------------- while it lasts


@pytest.mark.covers("L13")
def test_heartbeats_go_on_while_the_script_is_busy_or_asleep(vhost: Vhost) -> None:
    script = """
        import sys, time
        from txamqpx import blocking

        with blocking.connect(sys.argv[1] + "?heartbeat=1") as client:
            time.sleep(2.5)
            until = time.monotonic() + 2.5
            while time.monotonic() < until:
                sum(range(1000))
            print(client.queue_declare("jobs", durable=True).queue)
    """
    assert run(script, vhost, "") == (0, "jobs\n", "")


@pytest.mark.covers("S86")
def test_waiting_costs_no_time(vhost: Vhost) -> None:
    script = """
        import time
        from txamqpx.errors import WaitTimeout

        before = time.process_time()
        try:
            client.deliveries("jobs").get(timeout=1.0)
        except WaitTimeout:
            print(time.process_time() - before)
    """
    code, printed, errors = run(script, vhost)
    assert (code, errors) == (0, "")
    assert float(printed) < 0.25


# --------------------------------------------------------------------------- the end


@pytest.mark.covers("S86", "L06")
@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("raise RuntimeError('the script is wrong')", 1, "RuntimeError: the script is wrong"),
    ],
    ids=["end", "exit", "exception"],
)
def test_what_was_begun_is_there_when_the_process_has_ended(
    end: str, code: int, said: str, vhost: Vhost
) -> None:
    script = f"""
        for number in range(300):
            client.begin.publish(b"%d" % number, routing_key="jobs")
        {end}
    """
    returned, printed, errors = run(script, vhost)
    assert (returned, printed) == (code, "")
    if said:
        assert errors.count("Traceback") == 1
        assert errors.endswith(f"{said}\n")
    else:
        assert errors == ""
    assert in_queue(vhost) == 300


def test_threads_may_go_on_when_the_main_thread_has_ended(vhost: Vhost) -> None:
    script = """
        import threading

        def publish():
            threading.main_thread().join()
            for number in range(100):
                client.publish(b"%d" % number, routing_key="jobs")

        threading.Thread(target=publish).start()
    """
    assert run(script, vhost) == (0, "", "")
    assert in_queue(vhost) == 100


@pytest.mark.covers("S91", "L10")
def test_a_handler_at_work_may_finish_when_the_process_ends(vhost: Vhost) -> None:
    script = """
        import threading, time

        for number in range(10):
            client.publish(b"%d" % number, routing_key="jobs")
        begun = threading.Event()

        def handler(delivery):
            begun.set()
            time.sleep(0.3)
            client.publish(b"result", routing_key="results")
            print("done with", delivery.body, flush=True)

        client.queue_declare("results", durable=True)
        client.consume("jobs", handler, prefetch=3)
        begun.wait()
        print("the end", flush=True)
    """
    assert run(script, vhost) == (0, "the end\ndone with b'0'\n", "")
    assert in_queue(vhost) == 9


def test_a_handler_that_does_not_end_ends_with_the_process(vhost: Vhost) -> None:
    script = """
        import threading
        from txamqpx.blocking import client as module

        module.AT_EXIT = 0.3
        client.publish(b"job", routing_key="jobs")
        begun = threading.Event()

        def handler(delivery):
            begun.set()
            threading.Event().wait()

        client.consume("jobs", handler)
        begun.wait()
    """
    code, printed, _ = run(script, vhost)
    assert (code, printed) == (0, "")
    assert in_queue(vhost) == 1


def test_threads_that_wait_in_loops_end_quietly_with_the_process(vhost: Vhost) -> None:
    script = """
        import threading

        def loop():
            for delivery in client.deliveries("jobs"):
                pass
            ended.append("the loop")

        def wait():
            consumer.wait()
            ended.append("the consumer")

        ended = []
        consumer = client.consume("jobs", print)
        threads = [threading.Thread(target=function, daemon=True) for function in (loop, wait)]
        for thread in threads:
            thread.start()
        while client.queue_declare("jobs", durable=True).consumer_count < 2:
            pass
        client.close()
        for thread in threads:
            thread.join()
        print(sorted(ended))
    """
    assert run(script, vhost) == (0, "['the consumer', 'the loop']\n", "")
    quiet = """
        import threading

        def loop():
            for delivery in client.deliveries("jobs"):
                pass

        threading.Thread(target=loop, daemon=True).start()
        while not client.queue_declare("jobs", durable=True).consumer_count:
            pass
    """
    assert run(quiet, vhost) == (0, "", "")


@pytest.mark.covers("L12")
def test_ctrl_c_ends_a_wait_at_once(vhost: Vhost) -> None:
    script = """
        import signal

        signal.signal(signal.SIGINT, signal.default_int_handler)
        client.begin.publish(b"kept", routing_key="jobs")
        deliveries = client.deliveries("")
        print("ready", flush=True)
        for delivery in deliveries:
            print(delivery)
    """
    process = start(script, vhost)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            continue  # it came when the wait was about to begin
    printed, errors = process.communicate()
    assert (process.returncode, printed) == (-signal.SIGINT, "")
    assert errors.count("Traceback") == 1
    assert errors.endswith("KeyboardInterrupt\n")
    assert in_queue(vhost) == 1


# --------------------------------------------------------------------------- in a Twisted application


def test_threads_of_a_twisted_application_share_its_reactor(vhost: Vhost) -> None:
    script = """
        import sys, threading
        from twisted.internet import reactor
        from twisted.internet.threads import deferToThread
        from txamqpx import blocking, errors

        def work():
            client = blocking.connect(sys.argv[1])
            client.queue_declare("jobs", durable=True)
            for number in range(300):
                client.begin.publish(b"%d" % number, routing_key="jobs")
            reactor.callFromThread(reactor.stop)
            try:
                client.when_closed()
            finally:
                print([thread.name for thread in threading.enumerate() if "txamqpx reactor" in thread.name])

        def on_its_thread():
            try:
                blocking.connect(sys.argv[1])
            except errors.WrongThread as error:
                print("deferToThread" in str(error))
            deferToThread(work)

        reactor.callWhenRunning(on_its_thread)
        reactor.run()
        try:
            blocking.connect(sys.argv[1])
        except errors.ReactorStopped as error:
            print("stopped")
    """
    assert run(script, vhost, "") == (0, "True\n[]\nstopped\n", "")
    assert in_queue(vhost) == 300
