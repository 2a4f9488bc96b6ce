"""Analyses as they are asked for and shown."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from api.analysis.findings import Findings
from api.analysis.records import AnalysisState, StoredAnalysis
from api.web.times import Time, shown_time

__all__ = ["AnalysisRequest", "AnalysisView", "analysis_view"]

VERSION_MAX = 999_999_999  # a 32-bit column


class AnalysisRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose wishes to follow: by default those of the agent's published version."""

    agent_version: Annotated[int, Meta(ge=1, le=VERSION_MAX)] | None = None


class AnalysisView(Findings, frozen=True, kw_only=True):
    """What was made of a call; while ``state`` is ``waiting``, what there is so far."""

    state: AnalysisState
    agent_version: int
    attempts: int
    requested_at: Time
    updated_at: Time


def analysis_view(analysis: StoredAnalysis) -> AnalysisView:
    """``analysis`` as it is shown."""
    found = {name: getattr(analysis.findings, name) for name in Findings.__struct_fields__}
    return AnalysisView(
        **found,
        state=analysis.state,
        agent_version=analysis.agent_version,
        attempts=analysis.attempts,
        requested_at=shown_time(analysis.requested_at_ms),
        updated_at=shown_time(analysis.updated_at_ms),
    )
