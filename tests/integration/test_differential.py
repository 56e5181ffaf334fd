"""Random programs get the same answers from RabbitMQ and from the embedded broker."""

import pytest

from tests.differential.judge import compare
from tests.differential.program import program
from tests.rabbitmq import Node

LENGTH = 20
"""Few steps and few programs, as a broker's silence takes time; `python -m tests.differential` runs more."""


@pytest.mark.parametrize("seed", range(1, 4))
def test_the_embedded_broker_answers_as_rabbitmq_does(broker: Node, seed: int) -> None:
    if not isinstance(broker, Node):
        pytest.skip("this is about the two of them")
    profile = "rabbitmq-" + ".".join(broker.version.split(".")[:2])
    difference = compare(program(seed, LENGTH), broker, profile)
    assert difference is None, str(difference)
