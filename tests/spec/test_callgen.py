from __future__ import annotations

import ast

import pytest

from txamqpx.spec.callgen import channel_source
from txamqpx.spec.xmlspec import BUNDLED, bundled


def calls_of(source: str) -> dict[str, ast.FunctionDef]:
    (mixin,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "ChannelMethods"
    )
    return {node.name: node for node in mixin.body if isinstance(node, ast.FunctionDef)}


CALLS = calls_of(channel_source(bundled("0-9-1")))


def test_there_is_a_call_for_each_request_that_nobody_wrote_by_hand() -> None:
    assert CALLS.keys() == {
        "access_request",
        "exchange_declare",
        "exchange_delete",
        "exchange_bind",
        "exchange_unbind",
        "queue_declare",
        "queue_bind",
        "queue_purge",
        "queue_delete",
        "queue_unbind",
        "confirm_select",
        "tx_select",
        "tx_commit",
        "tx_rollback",
    }


def test_subjects_go_by_place_and_options_by_name() -> None:
    arguments = CALLS["queue_declare"].args
    assert [each.arg for each in arguments.args] == ["self", "queue"]
    assert [each.arg for each in arguments.kwonlyargs] == [
        "passive",
        "durable",
        "exclusive",
        "auto_delete",
        "arguments",
    ]


@pytest.mark.covers("T-CH-07")
def test_no_call_offers_not_to_wait() -> None:
    for call in CALLS.values():
        names = {each.arg for each in [*call.args.args, *call.args.kwonlyargs]}
        assert not names & {"no_wait", "nowait"}


def test_a_call_is_a_deferred_of_its_answer() -> None:
    returned = {name: ast.unparse(call.returns) for name, call in CALLS.items() if call.returns}
    assert returned["queue_declare"] == "Deferred[QueueDeclareOk]"
    assert returned["tx_commit"] == "Deferred[TxCommitOk]"


def test_a_call_passes_on_what_it_got() -> None:
    (_, answer) = CALLS["queue_bind"].body
    assert isinstance(answer, ast.Return)
    assert answer.value is not None
    fields = ("queue", "exchange", "routing_key", "arguments")
    made = ", ".join(f"{name}={name}" for name in fields)
    assert ast.unparse(answer.value) == f"self.call(QueueBind({made}))"


def test_a_method_without_fields_is_called_with_nothing() -> None:
    (_, answer) = CALLS["tx_select"].body
    assert ast.unparse(answer) == "return self.call(TxSelect())"


@pytest.mark.covers("T21")
@pytest.mark.parametrize(
    ("version", "module"), [("0-8", "amqp8_0"), ("0-9", "amqp0_9"), ("0-9-1", "amqp0_9_1")]
)
def test_each_version_has_calls_of_its_own(version: str, module: str) -> None:
    assert version in BUNDLED
    source = channel_source(bundled(version))
    assert f"from txamqpx.spec.{module} import (" in source
    assert {"queue_declare", "exchange_declare"} <= calls_of(source).keys()


def test_what_nobody_answers_is_a_deferred_of_the_write() -> None:
    from tests.spec.made import spec_with
    from txamqpx.spec.model import Class, Field, Method

    method = Method(name="nudge", index=10, to_server=True, fields=(Field(name="hard", type="bit"),))
    call = calls_of(channel_source(spec_with(Class(name="some", index=7, methods=(method,)))))["some_nudge"]
    assert ast.unparse(call.returns or call) == "Deferred[None]"
    assert ast.get_docstring(call) == "Send ``some.nudge``; fires with the write."
