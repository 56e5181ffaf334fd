from __future__ import annotations

from typing import Any

import pytest

from txamqpx.consuming.batch import Batch
from txamqpx.consuming.terms import Terms


@pytest.mark.covers("T-QOS-03", "T-QOS-04", "T-CON-15")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"prefetch": 0}, "from 1 to 65535, or None"),
        ({"prefetch": -1}, "from 1 to 65535"),
        ({"prefetch": 65536}, "from 1 to 65535"),
        ({"prefetch": 5, "concurrency": 6}, "of 5 never lets 6 handlers"),
        ({"prefetch": 5, "batch": Batch(6)}, "of 5 never lets a batch of 6"),
        ({"ack": "later"}, "is one of auto, manual, early, none"),
        ({"concurrency": 0}, "from 1 on"),
        ({"attempts": True}, "from 1 on"),
        ({"on_error": "ignore"}, "is one of"),
        ({"resume": True, "arguments": {"x-stream-offset": "first"}}, "read the stream again"),
        ({"batch": Batch(), "order_by": lambda delivery: 1}, "a batch has many keys"),
    ],
)
def test_what_could_never_work_is_refused(options: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Terms(**options)


@pytest.mark.covers("T-QOS-03")
@pytest.mark.parametrize("prefetch", [True, 10.0, "10"])
def test_a_prefetch_is_a_number(prefetch: Any) -> None:
    with pytest.raises(TypeError, match="prefetch is an int or None"):
        Terms(prefetch=prefetch)


def test_binding_keys_are_several() -> None:
    keys: Any = "a.#"
    with pytest.raises(TypeError, match="a sequence of keys"):
        Terms(binding_keys=keys)


@pytest.mark.covers("T-QOS-03")
def test_the_limits_are_finite_unless_somebody_asks() -> None:
    assert Terms().prefetch == 100
    assert Terms(prefetch=None, concurrency=1000).prefetch is None
    assert Terms(prefetch=65535).prefetch == 65535


def test_arguments_are_copied_and_stand_above_the_priority() -> None:
    given = {"x-priority": 5}
    terms = Terms(arguments=given, priority=3)
    given.clear()
    assert terms.consume_arguments == {"x-priority": 5}
    assert Terms(priority=3).consume_arguments == {"x-priority": 3}
    assert Terms().consume_arguments == {}
