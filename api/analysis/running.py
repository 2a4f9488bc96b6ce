"""Analyses calls in the background, a few at a time, beside the calls that go on.

The queue lies in the store: what a node that dies had begun is begun again by another, from the
first part that is missing.
"""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
import trio
from prometheus_client import CollectorRegistry, Counter

from api.analysis.asking import Question, messages, questions
from api.analysis.findings import Findings
from api.analysis.records import (
    Work,
    claim_analysis,
    finish_analysis,
    is_analysis_due,
    save_findings,
)
from api.analysis.transcript import cut, lines_of
from api.binding import AgentFactory, bind_responder
from api.store import Store
from api.store.errors import NotFound, StoreUnavailable, VaultLocked
from rtcore.agent.context import tokens_of
from rtcore.errors import ConfigError, ProviderError, first_error
from rtcore.ports import (
    CallContext,
    Delta,
    Message,
    Responder,
    ResponderRequest,
    TextDelta,
    ToolCall,
)

__all__ = ["Analyst"]

AT_ONCE = 2  # of a node: the calls that go on come first
LOOK_AGAIN_S = 2.0
PAUSE_S = 5.0  # a database that did not answer is asked again after it
REQUEST_LIMIT_S = 60.0
ASKED_MAX = 2  # times one question: what does not hold goes back once
DELTAS_MAX = 64
ANSWER_MAX_CHARS = 64_000  # more is a model that loops
ANSWER_TOKENS = 2_000  # of the budget, for what the model writes
CALLS_MAX = 4
ROOM_MIN_TOKENS = 500  # for a transcript, however long the questions are

log = structlog.get_logger()


class Analyst:
    """:meth:`run` is its one task, owned by the app's nursery; :meth:`wake` tells it of work."""

    def __init__(
        self, store: Store, agent_for: AgentFactory, *, registry: CollectorRegistry | None = None
    ) -> None:
        self._store = store
        self._agent_for = agent_for
        self._work = trio.Event()
        self._running = 0
        registry = registry or CollectorRegistry()
        self._outcomes = Counter(
            "rtcore_analyses", "Attempts to analyse a call", ["outcome"], registry=registry
        )
        self._tokens = Counter(
            "rtcore_analysis_tokens", "Tokens of analyses", ["direction"], registry=registry
        )

    def wake(self) -> None:
        """A call may be due."""
        self._work.set()

    async def run(self) -> None:
        """Analyse whatever is due, for ever.

        Cancelled: what is being asked is given up, and begun again later; what was found stays.
        """
        async with trio.open_nursery() as nursery:
            while True:
                self._work = trio.Event()
                try:
                    work = await self._claim()
                except StoreUnavailable as exc:
                    log.warning("analyses_paused", reason=str(exc))
                    await trio.sleep(PAUSE_S)
                    continue
                if work is not None:
                    self._running += 1
                    nursery.start_soon(self._analyse, work)
                    continue
                with trio.move_on_after(LOOK_AGAIN_S):
                    await self._work.wait()

    async def _claim(self) -> Work | None:
        if self._running >= AT_ONCE or not await self._store.read(is_analysis_due):
            return None
        return await self._store.write(claim_analysis)

    async def _analyse(self, work: Work) -> None:
        try:
            findings, try_again = await self._attempt(work)
            outcome = await self._store.write(finish_analysis, work, findings, try_again=try_again)
            self._outcomes.labels(outcome).inc()
            log.info("call_analysed", outcome=outcome, requests=findings.requests)
        except StoreUnavailable as exc:
            log.warning("analysis_unwritten", reason=str(exc))  # due again after its lease
        except Exception as exc:  # one answer must not end the node, here and wherever it is next
            log.error("analysis_broke", call_id=work.call.id, reason=type(exc).__name__)
            await self._give_up(work)
        finally:
            self._running -= 1
            self._work.set()

    async def _give_up(self, work: Work) -> None:
        findings = _broken_off(work.analysis.findings, "a fault of ours: see the node's log")
        try:
            await self._store.write(finish_analysis, work, findings, try_again=False)
        except StoreUnavailable as exc:
            log.warning("analysis_unwritten", reason=str(exc))

    async def _attempt(self, work: Work) -> tuple[Findings, bool]:
        """What is known now, and whether another attempt may find the rest."""
        attempt = _Attempt(self._store, work)
        error, try_again = "", False
        try:
            if work.spec is None:
                return _broken_off(attempt.findings, "its agent has been deleted"), False
            responder = await bind_responder(self._store, self._agent_for, work.spec)
            await attempt.run(responder)
        except* ProviderError as group:
            fault = first_error(group)
            error, try_again = f"{fault.provider} did not answer", fault.retryable
        except* trio.TooSlowError:
            error, try_again = f"no answer within {REQUEST_LIMIT_S:g} s", True
        except* (ConfigError, NotFound, VaultLocked) as settings:
            error = f"the model cannot be asked: {first_error(settings)}"
        self._tokens.labels("in").inc(attempt.input_tokens)
        self._tokens.labels("out").inc(attempt.output_tokens)
        return _broken_off(attempt.findings, error), try_again


def _broken_off(findings: Findings, error: str) -> Findings:
    return msgspec.structs.replace(findings, error=error)


class _Attempt:
    """Asks what is missing, one question after the other, and keeps each answer."""

    def __init__(self, store: Store, work: Work) -> None:
        self._store = store
        self._work = work
        self.findings = work.analysis.findings
        self.input_tokens = self.output_tokens = 0  # of this attempt
        language = work.spec.language if work.spec is not None else "en"
        self._context = CallContext(call_id=work.call.id, language=language)

    async def run(self, responder: Responder) -> None:
        """
        Raises:
            ProviderError, trio.TooSlowError: the rest was not asked; also in groups.
            StoreUnavailable: an answer could not be kept.
        """
        spec = self._work.spec
        assert spec is not None
        lines = lines_of(self._work.records)
        if spec.analysis is None or not lines:
            return
        for question in questions(spec.analysis, lines):
            if getattr(self.findings, question.name) is not None:
                continue
            used = tokens_of(messages(question, "")) + ANSWER_TOKENS
            if question.tool is not None:
                used += len(msgspec.json.encode(question.tool.parameters)) // 4
            shown = cut(lines, max(spec.context_max_tokens - used, ROOM_MIN_TOKENS))
            self._add(left_out_turns=max(self.findings.left_out_turns, shown.left_out))
            part = await self._ask(responder, question, shown.text)
            self._add(**{question.name: part})
            if not await self._store.write(save_findings, self._work, self.findings):
                return

    async def _ask(self, responder: Responder, question: Question[Any], text: str) -> object:
        """The answer; one that does not hold is sent back once."""
        asked = messages(question, text)
        tools = () if question.tool is None else (question.tool,)
        for number in range(ASKED_MAX):
            request = ResponderRequest(context=self._context, messages=asked, tools=tools)
            said, calls = await self._answer(responder, request)
            judged = question.judge(said, calls)
            if not judged.faults or number + 1 == ASKED_MAX:
                break
            asked = (*asked, *_sent_back(said, calls, judged.faults))
        return judged.part

    async def _answer(
        self, responder: Responder, request: ResponderRequest
    ) -> tuple[str, tuple[ToolCall, ...]]:
        said, calls = "", list[ToolCall]()
        tx, rx = trio.open_memory_channel[Delta](DELTAS_MAX)

        async def respond() -> None:
            with tx:
                await responder.respond(request, tx)

        self._add(requests=self.findings.requests + 1)
        with trio.fail_after(REQUEST_LIMIT_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(respond)
                async for delta in rx:
                    if isinstance(delta, TextDelta):
                        said += delta.text
                    elif isinstance(delta, ToolCall):
                        calls.append(delta)
                    else:
                        self._count(delta.input_tokens, delta.output_tokens)
                        break
                    if len(said) > ANSWER_MAX_CHARS or len(calls) > CALLS_MAX:
                        break
                nursery.cancel_scope.cancel(reason="answer complete")
        return said, tuple(calls)

    def _count(self, input_tokens: int, output_tokens: int) -> None:
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self._add(
            input_tokens=self.findings.input_tokens + input_tokens,
            output_tokens=self.findings.output_tokens + output_tokens,
        )

    def _add(self, **found: object) -> None:
        self.findings = msgspec.structs.replace(self.findings, **found)


def _sent_back(said: str, calls: tuple[ToolCall, ...], faults: str) -> tuple[Message, ...]:
    """What a model is told of an answer that does not hold."""
    told = f"error: {faults}"
    answered = Message(role="assistant", text=said, tool_calls=calls)
    if not calls:
        return answered, Message(role="user", text=told)
    return (
        answered,
        *(Message(role="tool", text=told, tool_call_id=call.id) for call in calls),
    )
