"""An agent's file becomes an agent that can be called; what is wrong in it is said by name."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from rtcore.agent.agent import Agent
from rtcore.agent.files import read_agent_file
from rtcore.assembly import serve_agent
from rtcore.errors import ConfigError, ProviderError
from rtcore.ports import ToolUse
from rtcore.providers.fallback import Breakers, FallbackSpeechModel

MCP = Path(__file__).parent / "fakes" / "mcp_stdio.py"
PROVIDERS = """
[[transcriber]]
provider = "deepgram"
[[responder]]
provider = "ollama"
model = "llama3"
[[responder]]
provider = "openai"
model = "gpt-4o-mini"
[[synthesizer]]
provider = "openai"
voice = "alloy"
"""
SECRETS = {
    "DEEPGRAM_API_KEY": "k1",
    "OPENAI_API_KEY": "k2",
    "HOOK": "k3",
    "GEMINI_API_KEY": "k4",
}
WEBHOOK = """
[[functions]]
type = "webhook"
name = "book"
description = "Book a table."
effect = "write"
url = "https://example.com/book"
secret = "HOOK"
fixed = { shop = "north" }
[functions.parameters]
type = "object"
properties.day.type = "string"
required = ["day"]
"""
PYTHON = "[[functions]]\ntype='python'\nfunction='a.b:c'\neffect='read'"


async def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello {name}"


def write(
    folder: Path, more: str = "", head: str = 'name = "desk"\nprompt = "Hi {caller}."'
) -> Path:
    path = folder / "agent.toml"
    path.write_text(f"{head}\n{PROVIDERS}\n{more}", encoding="utf-8")
    return path


async def test_a_file_becomes_an_agent(tmp_path: Path) -> None:
    (tmp_path / "place.md").write_text("# Parking\nBehind the house.", encoding="utf-8")
    functions = f"""{WEBHOOK}
[[functions]]
type = "python"
function = "{__name__}:greet"
effect = "read"
[[functions]]
type = "transfer"
targets = {{ reception = "+15550100" }}
[[functions]]
type = "collect"
name = "account"
what = "your account number"
kind = "digits"
count = 8
[[functions]]
type = "built-in"
name = "wait_for_caller"
[[functions]]
type = "mcp"
name = "tools"
command = [{str(sys.executable)!r}, {str(MCP)!r}]
effects = {{ add_two = "read" }}
"""
    head = 'name = "desk"\nprompt = "Hi {caller}."\ndocuments = ["place.md"]'
    path = write(tmp_path, functions, head)
    async with trio.open_nursery() as nursery:
        agent: Agent = await nursery.start(serve_agent, path, SECRETS)
        assert agent.definition.prompt == "Hi {caller}."
        assert [tool.name for tool in agent.tools][:6] == [
            "book", "greet", "transfer", "collect_account", "wait_for_caller", "add_two",
        ]  # fmt: skip
        effects = {tool.name: tool.effect for tool in agent.tools}
        assert (effects["book"], effects["add_two"], effects["fail"]) == ("write", "read", "write")
        assert agent.tools[0].fixed == {"shop": "north"}
        use = ToolUse(arguments={"name": "Ann"}, key="k", call_id="c")
        assert await agent.tools[1].run(use) == "Hello Ann"
        assert "Ann" in await agent.tools[5].run(use)
        assert agent.knowledge is not None
        (hit,) = await agent.knowledge.search("where can I park", 3)
        assert (hit.text, hit.title, hit.source) == ("Behind the house.", "Parking", "place.md")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("more", "field", "fix"),
    [
        ("[[functions]]\ntype = 'web'", "functions[0].type", "web"),
        ("[[functions]]\ntype = 'webhook'\nname = 'a'", "functions[0].description", "is missing"),
        (WEBHOOK.replace("write", "rite"), "functions[0].effect", "rite"),
        (WEBHOOK.replace("https:", "http:"), "functions.book.url", "https://"),
        (WEBHOOK.replace("object", "array"), "functions.book.parameters", "must describe"),
        (WEBHOOK.replace("HOOK", "HOOKED"), "HOOKED", "is missing"),
        (WEBHOOK + WEBHOOK, "functions", "two are called book"),
        (WEBHOOK.replace("fixed", "fixxed"), "functions[0].fixxed", "is unknown"),
        (PYTHON, "functions.a.b:c", "cannot be imported"),
        ("[[functions]]\ntype='mcp'\nname='m'", "functions.m", "a command or a url"),
        ("[[functions]]\ntype='built-in'\nname='x'", "functions[0].name", "x"),
    ],
)  # fmt: skip
async def test_what_cannot_be_used_is_said_by_name(
    tmp_path: Path, more: str, field: str, fix: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await serve_agent(write(tmp_path, more), SECRETS)
    assert caught.value.field == field
    assert fix in str(caught.value)


@pytest.mark.parametrize(
    ("head", "field", "fix"),
    [
        ("name = ", "agent", "is no TOML"),
        ("prompt = ''", "name", "is missing"),
        ("name = 'a'\nwelcome = 'Hi'", "welcome", "did you mean welcome_message?"),
        ("name = 'a'\ndocuments = ['no.md']", "documents[0]", "cannot be read"),
        ("name = 'a'\ncontext_max_tokens = 5", "context_max_tokens", "500"),
        ("name = 'a'\nidle.goodby = 'x'", "idle.goodby", "is unknown"),
    ],
)
async def test_a_file_that_cannot_be_used_is_said_by_name(
    tmp_path: Path, head: str, field: str, fix: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await serve_agent(write(tmp_path, head=head), SECRETS)
    assert caught.value.field == field
    assert fix in str(caught.value)


async def test_a_missing_file_or_provider_or_server_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        await serve_agent(tmp_path / "none.toml", SECRETS)
    with pytest.raises(ConfigError, match="DEEPGRAM_API_KEY"):
        await serve_agent(write(tmp_path), {})
    more = "[[functions]]\ntype='mcp'\nname='m'\ncommand=['/nowhere']"
    with pytest.raises(ProviderError, match="cannot be started"):
        await serve_agent(write(tmp_path, more), SECRETS)


def test_a_file_without_providers_names_them() -> None:
    with pytest.raises(ConfigError) as caught:
        read_agent_file(b'name = "desk"')
    assert caught.value.field == "transcriber"


SPEECH = b"""
name = "desk"
[speech_model]
provider = "openai-realtime"
turns = "theirs"
"""


async def test_a_speech_model_stands_in_for_all_three(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_bytes(SPEECH)
    async with trio.open_nursery() as nursery:
        agent: Agent = await nursery.start(serve_agent, tmp_path / "agent.toml", SECRETS)
        assert isinstance(agent.speech_model, FallbackSpeechModel)
        assert [model.name for model in agent.speech_model.members] == ["openai_realtime"]
        assert agent.speech_model.turns == "theirs"
        assert not agent.has_voice
        nursery.cancel_scope.cancel()


SPEECHES = b"""
name = "desk"
[[speech_model]]
provider = "openai-realtime"
[[speech_model]]
provider = "gemini-live"
"""


async def test_speech_models_of_a_list_share_their_breakers_with_other_agents(
    tmp_path: Path,
) -> None:
    (tmp_path / "agent.toml").write_bytes(SPEECHES)
    start = partial(serve_agent, breakers=Breakers())
    async with trio.open_nursery() as nursery:
        one: Agent = await nursery.start(start, tmp_path / "agent.toml", SECRETS)
        other: Agent = await nursery.start(start, tmp_path / "agent.toml", SECRETS)
        assert isinstance(one.speech_model, FallbackSpeechModel)
        assert isinstance(other.speech_model, FallbackSpeechModel)
        names = [model.name for model in one.speech_model.members]
        assert names == ["openai_realtime", "gemini_live"]
        assert one.speech_model.breakers == other.speech_model.breakers
        assert len(set(one.speech_model.breakers)) == 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (SPEECHES + b"turns = 'theirs'", "speech_model[1].turns"),
        (SPEECHES + b"[[speech_model]]\nprovider = 'deepgram_agent'", "speech_model[2].turns"),
        (b'name = "desk"\nspeech_model = []', "speech_model"),
    ],
)
async def test_speech_models_that_cannot_take_over_are_refused(
    tmp_path: Path, content: bytes, field: str
) -> None:
    (tmp_path / "agent.toml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        await serve_agent(tmp_path / "agent.toml", SECRETS)
    assert caught.value.field == field


async def test_a_voice_may_stand_beside_a_speech_model(tmp_path: Path) -> None:
    voice = b'[[synthesizer]]\nprovider = "deepgram"\n'
    (tmp_path / "agent.toml").write_bytes(SPEECH + voice)
    async with trio.open_nursery() as nursery:
        agent: Agent = await nursery.start(serve_agent, tmp_path / "agent.toml", SECRETS)
        assert agent.has_voice
        assert not agent.has_ears
        nursery.cancel_scope.cancel()


async def test_the_agent_of_the_provider_guide_is_one(tmp_path: Path) -> None:
    guide = (Path(__file__).parent.parent / "docs" / "providers.md").read_text(encoding="utf-8")
    (shown,) = [b for b in re.findall(r"```toml\n(.*?)```", guide, re.DOTALL) if "[speech" in b]
    (tmp_path / "agent.toml").write_text(shown, encoding="utf-8")
    async with trio.open_nursery() as nursery:
        agent: Agent = await nursery.start(serve_agent, tmp_path / "agent.toml", SECRETS)
        assert agent.speech_model is not None
        assert agent.has_voice
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("more", "field"),
    [
        (b"turn = 'ours'", "speech_model.openai_realtime.turn"),
        (b"vad_silence_ms = 1", "speech_model.openai_realtime.vad_silence_ms"),
        (b"key_name = 'NONE'", "NONE"),
    ],
)
async def test_a_speech_model_that_cannot_be_used_is_said_by_name(
    tmp_path: Path, more: bytes, field: str
) -> None:
    (tmp_path / "agent.toml").write_bytes(SPEECH + more)
    with pytest.raises(ConfigError) as caught:
        await serve_agent(tmp_path / "agent.toml", SECRETS)
    assert caught.value.field == field


async def test_colleagues_of_files_may_be_each_other_s(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    head = 'name = "{0}"\nwelcome_message = "This is {0}."\nprompt = "Hi {{caller}}."'
    beside = '[colleagues.{0}]\nfile = "{0}.toml"\nwhat_for = "about {0}"'
    for name, other in (("desk", "billing"), ("billing", "desk")):
        content = f"{head.format(name)}\n{PROVIDERS}\n{beside.format(other)}\n"
        (tmp_path / f"{name}.toml").write_text(content, encoding="utf-8")
    agent = await nursery.start(serve_agent, tmp_path / "desk.toml", SECRETS)
    billing = agent.colleagues["billing"].agent
    assert billing.definition.name == "billing"
    assert billing.colleagues["desk"].agent is agent
    assert "hand_over" in [tool.name for tool in agent.offered]
    filled = agent.for_call({"caller": "Ann"})
    theirs = filled.colleagues["billing"].agent
    assert theirs.definition.prompt == "Hi Ann."
    assert theirs.colleagues["desk"].agent is filled
    assert billing.definition.prompt == "Hi {caller}."
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("head", "field"),
    [
        (None, "colleagues.billing.file"),
        ('name = "billing"', "colleagues.billing.welcome_message"),
    ],
)
async def test_a_colleague_that_cannot_be_used_is_named(
    tmp_path: Path, head: str | None, field: str
) -> None:
    more = '[colleagues.billing]\nfile = "billing.toml"\nwhat_for = "bills"'
    path = write(tmp_path, more)
    if head is not None:
        (tmp_path / "billing.toml").write_text(f"{head}\n{PROVIDERS}", encoding="utf-8")
    with pytest.raises(ConfigError, match=field):
        await serve_agent(path, SECRETS)


async def test_a_file_s_agent_takes_messages(tmp_path: Path, nursery: trio.Nursery) -> None:
    more = '[[functions]]\ntype = "leave_message"\nurl = "https://example.com/m"\nsecret = "HOOK"'
    agent = await nursery.start(serve_agent, write(tmp_path, more), SECRETS)
    (tool,) = [each for each in agent.offered if each.name == "leave_message"]
    assert tool.effect == "write"
    nursery.cancel_scope.cancel()
