"""Functions of an agent: what the model asks for is checked, run by its effect, and answered."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
import pytest
import structlog
import trio

from rtcore.agent.agent import Agent
from rtcore.agent.builtins import leave_message, send_dtmf, transfer, wait_for_caller
from rtcore.agent.collecting import collect
from rtcore.agent.functions import function
from rtcore.agent.performing import BROKEN
from rtcore.agent.tools import RESULT_MAX_CHARS, Tool, ToolError, ToolUse
from rtcore.config import CallConfig
from rtcore.errors import ConfigError
from rtcore.ports import ToolSpec
from rtcore.testing import ScriptedSynthesizer, ScriptedTranscriber
from rtcore.turn.completeness import Expectation
from tests.agent.thoughts import DEFINITION, NUMBER, Control, Model, call, think, tool

APOLOGY = DEFINITION.apology_line
REMOTE = {"type": "object", "properties": {"a": {"$ref": "https://example.com/a.json"}}}
LARGE = {"type": "object", "description": "x" * 40_000}


# --- at configuration time ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"type": "array"}, "must describe an object"),
        ({"type": "object", "properties": {"a": {"type": "objekt"}}}, "is no JSON Schema"),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, "is no JSON Schema"),
        ({"type": "object", "default": {1, 2}.__iter__}, "nothing but JSON values"),
        (REMOTE, "is no JSON Schema"),
        (LARGE, "at most 32768"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_by_name(
    schema: dict[str, object], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        tool("book", parameters=schema)
    assert caught.value.field == "functions.book.parameters"


def test_a_schema_of_an_older_draft_is_taken() -> None:
    draft = "http://json-schema.org/draft-07/schema#"
    look = tool("look", parameters={**NUMBER, "$schema": draft})
    assert look.parameters.faults({"n": 1}) == ""
    assert look.parameters.faults({}) == '"n" is a required property'


def test_an_effect_that_is_none_is_refused_by_name() -> None:
    spec = ToolSpec(name="order", description="Order.", parameters={"type": "object"})
    with pytest.raises(ConfigError, match=r"functions\.order\.effect: 'wirte' is none of read, wr"):
        Tool(spec=spec, effect="wirte", run=_nothing)  # type: ignore[arg-type] # that is tested


async def _nothing(_: ToolUse) -> str:
    return ""


def test_two_functions_of_one_name_are_refused() -> None:
    ports = ScriptedTranscriber([""]), Model(""), ScriptedSynthesizer()
    with pytest.raises(ConfigError, match="two are called book"):
        Agent(DEFINITION, *ports, tools=(tool("book"), tool("book")))


# --- what the model gets wrong ------------------------------------------------------------


async def test_invalid_arguments_go_back_to_the_model_once() -> None:
    log: list[object] = []
    model = Model([call("book", '{"n": "x"}')], [call("book", '{"n": 3}')], "Done.")
    said, _ = await think(model, tool("book", parameters=NUMBER, log=log))
    assert said == ["Done."]
    assert model.told(1) == [
        'error: the arguments of book are invalid: n: "x" is not of type "integer"'
    ]
    assert model.told(2)[1] == "done"
    assert len(log) == 1


@pytest.mark.parametrize("arguments", ['{"n": "x"}', "{}", "[1]", "{", '"n"'])
async def test_invalid_arguments_twice_end_in_an_apology(arguments: str) -> None:
    log: list[object] = []
    model = Model([call("book", arguments)])
    said, thought = await think(model, tool("book", parameters=NUMBER, log=log))
    assert said == [APOLOGY]
    assert len(model.requests) == 2
    assert log == []
    assert [len(step.outcomes) for step in thought.steps] == [1, 1, 0]


async def test_a_function_that_does_not_exist_is_told_by_those_that_do() -> None:
    model = Model([call("fly")], "Sorry, I cannot.")
    said, _ = await think(model, tool("book"))
    assert model.told(1) == ["error: there is no function 'fly'; there are: book, hang_up"]
    assert said == ["Sorry, I cannot."]


async def test_a_model_that_loops_is_stopped_and_the_caller_told() -> None:
    log: list[object] = []
    model = Model([call("book")])
    said, _ = await think(model, tool("book", log=log), config=CallConfig(tool_steps_max=3))
    assert said == [APOLOGY]
    assert len(log) == 3


async def test_calls_with_one_id_are_told_apart() -> None:
    log: list[tuple[str, float, object, str]] = []
    twice = [call("a", id="x"), call("b", id="x"), call("a", id="")]
    _, thought = await think(Model(twice, "Done."), tool("a", log=log), tool("b", log=log))
    assert len(thought.steps[0].outcomes) == 3
    assert len({key for _, _, _, key in log}) == 3


async def test_more_calls_than_anybody_needs_are_not_made() -> None:
    log: list[object] = []
    many = [call("a", id=str(n)) for n in range(1000)]
    await think(Model(many, "Done."), tool("a", log=log))
    assert len(log) == 16


# --- how they run -------------------------------------------------------------------------


async def test_fixed_parameters_are_added_and_cannot_be_changed() -> None:
    log: list[tuple[str, float, object, str]] = []
    fixed = tool("book", log=log, fixed={"shop": "north"})
    await think(Model([call("book", '{"n": 1, "shop": "south"}')], "Done."), fixed)
    assert log[0][2] == {"n": 1, "shop": "north"}


async def test_reads_of_one_step_run_at_once_others_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def started(log: list[tuple[str, float, object, str]]) -> list[tuple[str, float]]:
        return sorted((name, at - began_s) for name, at, _, _ in log)

    for effect, expected in (("read", 0.0), ("write", 1.0)):
        log: list[tuple[str, float, object, str]] = []
        began_s = trio.current_time()
        both = tool("a", takes_s=1.0, log=log), tool("b", effect, takes_s=1.0, log=log)  # type: ignore[arg-type]
        await think(Model([call("a"), call("b", id="c2")], "Done."), *both)
        assert started(log) == [("a", 0.0), ("b", pytest.approx(expected))]


async def test_a_slow_function_is_bridged_once(autojump_clock: trio.testing.MockClock) -> None:
    model = Model([call("a")], [call("a", id="c2")], "Done.")
    said, _ = await think(model, tool("a", takes_s=5.0))
    assert said == [DEFINITION.filler_line, "Done."]


async def test_a_function_has_a_limit_of_its_own(autojump_clock: trio.testing.MockClock) -> None:
    model = Model([call("a")], "Done.")
    await think(model, tool("a", takes_s=60.0, limit_s=2.0))
    assert model.told(1) == ["error: a gave no answer within 2 s"]


async def test_a_long_result_is_cut() -> None:
    model = Model([call("a")], "Done.")
    await think(model, tool("a", result="x" * 100_000))
    assert model.told(1)[0].endswith("[cut: 100000 characters in all]")
    assert len(model.told(1)[0]) < RESULT_MAX_CHARS + 100


@pytest.mark.parametrize("effect", ["read", "write"])
async def test_what_user_code_raises_is_a_result_and_a_log_line_without_words(effect: str) -> None:
    async def run(use: ToolUse) -> str:
        async with trio.open_nursery():
            raise ValueError("Mr Smith, +1 555 0100")

    broken = Tool(spec=ToolSpec(name="a", description=""), effect=effect, run=run)  # type: ignore[arg-type]
    model = Model([call("a")], "Done.")
    with structlog.testing.capture_logs() as logs:
        said, _ = await think(model, broken)
    assert model.told(1) == [BROKEN]
    assert said == ["Done."]
    assert logs[0]["error"] == "ValueError"
    assert "Smith" not in str(logs)


# --- a coroutine function as a function ---------------------------------------------------


class Guest(msgspec.Struct):
    name: str


async def book(
    day: datetime.date,
    guests: list[Guest],
    use: ToolUse,
    seats: Annotated[int, msgspec.Meta(ge=1, le=9)] = 2,
    *,
    shop: str,
) -> dict[str, object]:
    """Book a table."""
    return {"day": day, "guests": len(guests), "seats": seats, "shop": shop, "key": use.key}


async def test_annotations_are_the_schema_and_arguments_come_typed() -> None:
    booking = function(book, "write", fixed={"shop": "north"})
    assert booking.spec.description == "Book a table."
    assert set(booking.spec.parameters["properties"]) == {"day", "guests", "seats"}
    assert booking.spec.parameters["required"] == ["day", "guests"]
    arguments = '{"day": "2026-03-01", "guests": [{"name": "Ann"}]}'
    model = Model([call("book", arguments)], "Done.")
    await think(model, booking)
    assert msgspec.json.decode(model.told(1)[0]) == {
        "day": "2026-03-01",
        "guests": 1,
        "seats": 2,
        "shop": "north",
        "key": "call-1-1-1-0",
    }


@pytest.mark.parametrize("arguments", ['{"day": "soon", "guests": []}', '{"guests": 1}'])
async def test_arguments_of_the_wrong_type_are_told(arguments: str) -> None:
    model = Model([call("book", arguments)], "Done.")
    await think(model, function(book, "write", fixed={"shop": "north"}))
    assert model.told(1)[0].startswith("error: the arguments of book are invalid")


def test_a_parameter_without_a_type_is_refused() -> None:
    async def untyped(a):  # type: ignore[no-untyped-def]
        return a

    async def listed(*a: int) -> None: ...

    async def opaque(a: trio.Event) -> None: ...

    for fn in (untyped, listed, opaque):
        with pytest.raises(ConfigError, match=f"functions.{fn.__name__}"):
            function(fn, "read")


# --- functions that come with rtcore ------------------------------------------------------


async def keep(use: ToolUse) -> str:
    return f"kept {use.arguments['text']}"


async def test_built_in_functions_steer_the_call() -> None:
    control = Control()
    calls = [
        call("send_dtmf", '{"keys": "12#"}', "1"),
        call("wait_for_caller", '{"seconds": 30}', "2"),
        call("leave_message", '{"text": "call back"}', "3"),
        call("transfer", '{"to": "sales"}', "4"),
    ]
    tools = send_dtmf(), wait_for_caller(), leave_message(keep), transfer({"sales": "+15550100"})
    model = Model(calls, "Done.")
    await think(model, *tools, control=control)
    assert control.done == [("keys", "12#"), ("wait", 30), ("transfer", "+15550100")]
    assert model.told(1)[2] == "kept call back"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("transfer", '{"to": "+19005550100"}'),
        ("send_dtmf", '{"keys": "12x"}'),
        ("wait_for_caller", '{"seconds": 1e9}'),
    ],
)
async def test_built_in_functions_refuse_what_they_do_not_offer(name: str, arguments: str) -> None:
    control = Control()
    tools = send_dtmf(), wait_for_caller(), transfer({"sales": "+15550100"})
    await think(Model([call(name, arguments)], "Sorry."), *tools, control=control)
    assert control.done == []


async def test_a_chat_has_no_call_to_steer() -> None:
    model = Model([call("send_dtmf", '{"keys": "1"}')], "Sorry.")
    await think(model, send_dtmf())
    assert model.told(1) == ["error: this is a chat: there is no call to do that to"]


async def collected(kind: str, count: int | None, *arguments: str) -> tuple[list[str], Control]:
    control = Control()
    steps = [[call("collect_it", each, str(n))] for n, each in enumerate(arguments)]
    model = Model(*steps, "Thanks.")
    await think(model, collect("it", "your number", kind, count=count), control=control)  # type: ignore[arg-type]
    return model.told(len(arguments)), control


async def test_digits_are_asked_for_read_back_and_confirmed() -> None:
    heard = '"heard": "four two, double seven"'
    told, control = await collected(
        "digits", 4, "{}", f"{{{heard}}}", f'{{{heard},"confirmed":true}}'
    )
    assert told[0] == "ask the caller for your number now"
    assert told[1] == 'not confirmed yet: say "4, 2, 7, 7" and ask if that is right'
    assert told[2] == "confirmed: 4277"
    assert control.done == [Expectation.digits(4), Expectation(kind="yes_no")]


@pytest.mark.parametrize(
    ("kind", "count", "heard", "value"),
    [
        ("digits", None, "plus four four 20 79 46", "+44207946"),
        ("digits", 3, "12", None),
        ("digits", None, "I do not know", None),
        ("email", None, "john dot smith at example dot com", "john.smith@example.com"),
        ("email", None, "john at home", None),
        ("date", None, "2026-02-28", "2026-02-28"),
        ("date", None, "2026-02-30", None),
    ],
)
async def test_what_was_heard_is_understood_or_asked_for_again(
    kind: str, count: int | None, heard: str, value: str | None
) -> None:
    arguments = msgspec.json.encode({"heard": heard, "confirmed": True}).decode()
    told, control = await collected(kind, count, arguments)
    if value is None:
        assert told[0].endswith("ask the caller for your number again")
        assert len(control.done) == 1
    else:
        assert told == [f"confirmed: {value}"]


async def test_a_tool_error_is_told_in_its_own_words() -> None:
    async def full() -> str:
        raise ToolError("no table is free")

    model = Model([call("full")], "Sorry.")
    await think(model, function(full, "read"))
    assert model.told(1) == ["error: no table is free"]
