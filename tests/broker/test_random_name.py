"""Names that the broker makes."""

import re

from txamqpx.broker.random_name import random_name


def test_a_name_has_rabbitmqs_form_and_comes_once() -> None:
    names = {random_name("gen") for _ in range(100)}
    assert len(names) == 100
    assert all(re.fullmatch(r"amq\.gen-[\w-]{22}", name) for name in names)
