"""Delivers what waits in the outbox: at least once, signed, a bounded number at a time.

The work lies in the store. What a node that dies had claimed is due again within seconds, so a
receiver may hear of one event twice, by the same ``webhook-id``; in which order, nobody promises.
"""

from __future__ import annotations

import random
import time
from collections import Counter as Count
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import structlog
import trio
from prometheus_client import CollectorRegistry, Counter

from api.kept import Kept
from api.outgoing.outbox import (
    Work,
    claim_deliveries,
    finish_delivery,
    is_delivery_due,
    tidy_deliveries,
)
from api.outgoing.retrying import wait_ms
from api.store import Store
from api.store.errors import StoreUnavailable
from rtcore.errors import ConfigError, ProviderError, ToolError
from rtcore.providers.functions import Endpoint
from rtcore.providers.functions.signing import signed

__all__ = ["Sender"]

LOOK_AGAIN_S = 1.0  # how late an event is told at worst, while there is room
IN_FLIGHT_MAX = 20
EACH_MAX = 5  # at one webhook: one that hangs leaves room for the others
ATTEMPT_LIMIT_S = 10.0  # within the claim, so that nobody else is at it meanwhile
KEPT_MAX = 50  # receivers whose connections are kept open
PAUSE_S = 5.0  # a database that did not answer is asked again after it
TIDY_EVERY_S = 600.0
ERROR_MAX_CHARS = 300

log = structlog.get_logger()


class Sender:
    """:meth:`run` is its one task, owned by the app's nursery; :meth:`wake` tells it of work."""

    def __init__(
        self,
        store: Store,
        *,
        allow_private: bool,
        registry: CollectorRegistry | None = None,
        die: Callable[[], float] = random.random,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._allow_private = allow_private
        self._die = die
        self._now_s = now_s
        self._work = trio.Event()
        self._in_flight: Count[str] = Count()  # by webhook
        self._endpoints: Kept[tuple[str, str], Endpoint] = Kept(KEPT_MAX)
        self._attempts = Counter(
            "rtcore_webhook_attempts",
            "Attempts to deliver an event",
            ["outcome"],
            registry=registry or CollectorRegistry(),
        )

    def wake(self) -> None:
        """Something may be due."""
        self._work.set()

    async def run(self) -> None:
        """Deliver whatever is due, for ever.

        Cancelled: what is in flight is due again within seconds.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tidy)
                await self._deliver_all(nursery)
        finally:
            await self._endpoints.aclose()

    async def _deliver_all(self, nursery: trio.Nursery) -> None:
        while True:
            self._work = trio.Event()
            try:
                claimed = await self._claim()
            except StoreUnavailable as exc:
                log.warning("webhooks_paused", reason=str(exc))
                await trio.sleep(PAUSE_S)
                continue
            for work in claimed:
                self._in_flight[work.webhook_id] += 1
                nursery.start_soon(self._deliver, work)
            if not claimed:
                with trio.move_on_after(LOOK_AGAIN_S):
                    await self._work.wait()

    async def _claim(self) -> tuple[Work, ...]:
        room = IN_FLIGHT_MAX - self._in_flight.total()
        if room <= 0 or not await self._store.read(is_delivery_due):
            return ()
        busy = {id for id, number in self._in_flight.items() if number >= EACH_MAX}
        return await self._store.write(claim_deliveries, min(room, EACH_MAX), busy)

    async def _tidy(self) -> None:
        while True:
            try:
                await self._store.write(tidy_deliveries)
            except StoreUnavailable as exc:
                log.warning("webhooks_untidy", reason=str(exc))
            await trio.sleep(TIDY_EVERY_S)

    # --- one attempt --------------------------------------------------------------------

    async def _deliver(self, work: Work) -> None:
        try:
            error, retry_after_s = await self._attempt(work)
            waits_ms = wait_ms(work.attempts, retry_after_s, self._die()) if error else None
            outcome = "delivered" if not error else "dead" if waits_ms is None else "failed"
            self._attempts.labels(outcome).inc()
            if error:  # which webhook, not its words: the receiver chose them
                log.warning("webhook_not_delivered", webhook_id=work.webhook_id, outcome=outcome)
            await self._store.write(finish_delivery, work, error[:ERROR_MAX_CHARS], waits_ms)
        except StoreUnavailable as exc:
            log.warning("delivery_unwritten", reason=str(exc))  # it is due again after its claim
        finally:
            self._in_flight[work.webhook_id] -= 1
            self._in_flight += Count()  # forget those at zero
            self._work.set()

    async def _attempt(self, work: Work) -> tuple[str, float | None]:
        """Why it failed (empty: it did not), and when the receiver wants to be asked again."""
        if work.secret is None:
            return "its secret cannot be opened: see RTCORE_SECRET_KEYS", None
        headers = signed(work.event_id, work.body, work.secret, int(self._now_s()))
        with trio.move_on_after(ATTEMPT_LIMIT_S):
            try:
                async with self._endpoint(work) as endpoint:
                    answer = await endpoint.post(work.body, headers, work.attempts - 1)
                    await answer.aclose()  # whatever it says beyond its status is not read
            except ProviderError as exc:
                return str(exc).removeprefix(f"{work.webhook_id}: "), exc.retry_after_s
            except (ToolError, ConfigError) as exc:
                return str(exc), None
            except Exception as exc:  # whatever a receiver says must not end the node
                log.error("webhook_broke", webhook_id=work.webhook_id, reason=type(exc).__name__)
                return "a fault of ours: see the node's log", None
            if answer.status >= 300:
                return f"{answer.status}: redirects are not followed", None
            return "", None
        return f"no answer within {ATTEMPT_LIMIT_S:g} s", None

    def _endpoint(self, work: Work) -> AbstractAsyncContextManager[Endpoint]:
        """Entered it raises ConfigError, if the URL may not be used any more."""
        make = partial(
            Endpoint,
            work.webhook_id,
            work.url,
            ATTEMPT_LIMIT_S,
            allow_private=self._allow_private,
            secret=None,
        )
        return self._endpoints.use((work.webhook_id, work.url), make)
