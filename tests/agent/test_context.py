"""What a model is given stays within its budget, and keeps what matters."""

from __future__ import annotations

import msgspec
import trio
from hypothesis import given
from hypothesis import strategies as st

from rtcore.agent.agent import Agent
from rtcore.agent.context import Summariser, fit, tokens_of
from rtcore.agent.conversation import Conversation
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.template import filled
from rtcore.errors import ProviderError
from rtcore.ports import CallContext, Delta, Message, ResponderRequest, ToolCall
from rtcore.testing import ScriptedSynthesizer, ScriptedTranscriber
from tests.agent.thoughts import DEFINITION, Model, call, think, tool

SYSTEM = Message(role="system", text="Be brief.")
CONTEXT = CallContext(call_id="call-1")


def turn(number: int, words: int = 20, result: int = 0) -> list[Message]:
    said = [Message(role="user", text=f"question {number} " + "word " * words)]
    if result:
        asked = ToolCall(id=f"c{number}", name="look", arguments="{}")
        said.append(Message(role="assistant", tool_calls=(asked,)))
        said.append(Message(role="tool", text="x" * result, tool_call_id=asked.id))
    return [*said, Message(role="assistant", text=f"answer {number}")]


def test_what_fits_stays_as_it_is() -> None:
    messages = (SYSTEM, *turn(1), *turn(2))
    assert fit(messages, 10_000) == messages


def test_long_results_go_before_any_turn() -> None:
    messages = [SYSTEM, *turn(1, result=4000), *turn(2)]
    kept = fit(messages, 200)
    assert [m.role for m in kept] == [m.role for m in messages]
    assert kept[3].text.endswith("[cut]")


def test_then_the_oldest_turns_go_and_the_newest_stays_whatever_it_is() -> None:
    messages = [SYSTEM, *turn(1, 500), *turn(2, 500), *turn(3, 50), *turn(4, 50)]
    kept = fit(messages, 300)
    assert kept == (SYSTEM, *turn(3, 50), *turn(4, 50))
    assert fit(messages, 1) == (SYSTEM, *turn(4, 50))


@given(
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from([0, 10, 3000])), min_size=1),
    st.integers(1, 3000),
)
def test_whatever_was_said_pairs_stay_paired_and_order_stays(
    turns: list[tuple[int, int]], budget: int
) -> None:
    messages = [SYSTEM, *(m for n, (w, r) in enumerate(turns) for m in turn(n, w, r))]
    last = turn(len(turns) - 1, *turns[-1])
    kept = fit(messages, budget)
    assert kept[0] == SYSTEM
    assert list(kept[-len(last) :]) == last
    assert tokens_of(kept) <= max(budget, tokens_of([SYSTEM, *last]))
    asked = [c.id for m in kept for c in m.tool_calls]
    assert asked == [m.tool_call_id for m in kept if m.role == "tool"]
    texts = [m.text for m in messages if m.role == "user"]
    assert [m.text for m in kept if m.role == "user"] == texts[
        -sum(m.role == "user" for m in kept) :
    ]


async def test_a_thought_keeps_to_the_budget_of_its_agent() -> None:
    model = Model([call("a")], "Done.")
    messages = (SYSTEM, *turn(1, 5000), *turn(2, 5000), Message(role="user", text="Hello?"))
    definition = AgentDefinition(name="desk", context_max_tokens=500)
    await think(model, tool("a"), messages=messages, definition=definition)
    assert all(tokens_of(request.messages) <= 500 for request in model.requests)
    assert model.told(1) == ["done"]


# --- a summary in the place of what is old ------------------------------------------------


def conversation(turns: int) -> Conversation:
    talk = Conversation("Be brief.")
    for number in range(turns):
        talk.user(f"question {number} " + "word " * 50)
        talk.assistant(f"answer {number}")
    return talk


async def test_the_beginning_is_summed_up_and_the_log_stays_whole() -> None:
    talk, model = conversation(10), Model("The caller asked much.")
    summariser = Summariser(talk, model, CONTEXT, max_tokens=600)
    assert summariser.is_due
    await summariser.run()
    given = talk.messages()
    assert [m.text for m in given[:3]] == [
        "Be brief.",
        "Until now:\nThe caller asked much.",
        "question 6 " + "word " * 50,
    ]
    assert len(talk.log) == 20
    assert not summariser.is_due
    for _ in range(10):  # the next one sums up the summary too
        talk.user("word " * 100)
    await summariser.run()
    assert "Until now:" in model.requests[1].messages[1].text


class Broken(Model):
    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        raise ProviderError("model", "broken", retryable=False)


class Silent(Model):
    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        await trio.sleep_forever()


async def test_a_model_that_fails_leaves_all_as_it_was(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for model in (Broken(""), Silent(""), Model("")):
        talk = conversation(10)
        before = talk.messages()
        summariser = Summariser(talk, model, CONTEXT, max_tokens=600)
        await summariser.run()
        assert talk.messages() == before
        assert summariser.is_due


# --- the words of an agent ----------------------------------------------------------------


def test_variables_are_filled_in_and_unknown_ones_stay() -> None:
    text = "Hello {caller}, {unknown} {} {{caller}} {not a name}"
    assert filled(text, {"caller": "{name}", "name": "x"}) == (
        "Hello {name}, {unknown} {} {{name}} {not a name}"
    )


def test_an_agent_is_made_for_each_call() -> None:
    definition = msgspec.structs.replace(
        DEFINITION, welcome_message="Hello {caller}.", prompt="You speak with {caller}."
    )
    agent = Agent(definition, ScriptedTranscriber([""]), Model(""), ScriptedSynthesizer())
    mine = agent.for_call({"caller": "Ann"})
    assert mine.definition.welcome_message == "Hello Ann."
    assert mine.definition.prompt == "You speak with Ann."
    assert mine.lines is agent.lines
    assert agent.definition is definition
