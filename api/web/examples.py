"""Examples of what is sent and returned, for the specification; a test checks each of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from api.outgoing.examples import EXAMPLES as OUTGOING

__all__ = ["EXAMPLES", "problem_example"]

AGENT_ID = "agt_0123456789abcdef01234567"
FUNCTION_ID = "fn_0123456789abcdef01234567"
BASE_ID = "kb_0123456789abcdef01234567"
DOCUMENT_ID = "doc_0123456789abcdef01234567"
KEY_ID = "rtk_0123456789abcdef01234567"
CHAT_ID = "cht_0123456789abcdef01234567"
AT = "2026-11-21T03:07:12.000Z"

AGENT_SPEC = {
    "name": "Trattoria Roma",
    "welcome_message": "Trattoria Roma, good evening! What can I do for you?",
    "prompt": "You take reservations for Trattoria Roma. Be brief and warm.",
    "language": "en",
    "llm": [{"provider": "openai", "model": "gpt-4.1-mini", "secret": "openai-key"}],
    "function_ids": [FUNCTION_ID],
    "knowledgebase_ids": [BASE_ID],
}
AGENT = AGENT_SPEC | {
    "id": AGENT_ID,
    "answer_url": f"https://voice.example.com/plivo/answer/{AGENT_ID}",
    "version": 2,
    "published_version": 1,
    "created_at": AT,
    "updated_at": AT,
}
FUNCTION_SPEC = {
    "name": "book_table",
    "description": "Book a table once the guest has said day, time and number of persons.",
    "url": "https://booking.example.com/tables",
    "effect": "write",
    "parameters": {
        "type": "object",
        "properties": {
            "day": {"type": "string", "description": "As YYYY-MM-DD."},
            "persons": {"type": "integer", "minimum": 1, "maximum": 20},
        },
        "required": ["day", "persons"],
    },
    "fixed_parameters": {"restaurant": "roma"},
}
FUNCTION = FUNCTION_SPEC | {"id": FUNCTION_ID, "created_at": AT, "updated_at": AT}
BASE_SPEC = {"name": "Menu", "description": "Dishes, prices, allergens, opening hours."}
BASE = BASE_SPEC | {"id": BASE_ID, "created_at": AT, "updated_at": AT}
DOCUMENT = {
    "id": DOCUMENT_ID,
    "knowledgebase_id": BASE_ID,
    "name": "menu.md",
    "media_type": "text/markdown",
    "size_bytes": 5120,
    "state": "ready",
    "progress_percent": 100,
    "passages": 12,
    "error": None,
    "created_at": AT,
}
SOURCE = {
    "document_id": DOCUMENT_ID,
    "document": "menu.md",
    "knowledgebase_id": BASE_ID,
    "position": 3,
    "heading": "Opening hours",
    "text": "Tuesday to Sunday, 17:00 to 23:00.",
    "score": 2.1,
}
KEY = {
    "id": KEY_ID,
    "name": "ci",
    "scopes": ["read", "write"],
    "created_at": AT,
    "expires_at": None,
}
SECRET = {"name": "openai-key", "created_at": AT, "updated_at": AT}
AUDIT = {
    "id": 17,
    "at": AT,
    "actor": KEY_ID,
    "request_id": "5f2b1c9a7d3e4f60",
    "action": "agent.updated",
    "resource_id": AGENT_ID,
    "fields": ["prompt"],
}
VERSION = {"version": 2, "is_published": False, "created_at": AT, "created_by": KEY_ID}
MESSAGE = {
    "id": "msg_0123456789abcdef01234567",
    "agent_id": AGENT_ID,
    "call_id": "call_0123456789abcdef01234567",
    "name": "Ann",
    "text": "Please call me back before noon.",
    "created_at": AT,
}


def _page(item: dict[str, Any]) -> dict[str, Any]:
    return {"items": [item], "total": 1, "limit": 20, "offset": 0, "next_offset": None}


EXAMPLES: dict[str, Any] = {
    "AgentSpec": {"name": "Trattoria Roma", "prompt": "You take reservations."},
    "AgentPatch": {"prompt": "You take reservations. Offer the dish of the day."},
    "AgentView": AGENT,
    "VersionView": VERSION,
    "VersionDetail": VERSION | {"agent": AGENT_SPEC},
    "PublishRequest": {"version": 1},
    "FunctionSpec": FUNCTION_SPEC,
    "FunctionPatch": {"limit_s": 20},
    "FunctionView": FUNCTION,
    "KnowledgeBaseSpec": BASE_SPEC | {"embedding": {"model": "text-embedding-3-small"}},
    "KnowledgeBasePatch": {"description": "Dishes and prices."},
    "KnowledgeBaseView": BASE,
    "DocumentView": DOCUMENT,
    "SearchRequest": {"query": "when do you open on sunday?", "limit": 3},
    "SearchResults": {"items": [SOURCE]},
    "SourceView": SOURCE,
    "ChatRequest": {"message": "Are you open on Sunday?"},
    "ChatAnswer": {
        "conversation_id": CHAT_ID,
        "version": 1,
        "response": "Yes, from five to eleven.",
        "functions": [
            {
                "type": "function_returned",
                "id": "call_1",
                "name": "search_knowledge",
                "result": "[1] menu.md / Opening hours\nTuesday to Sunday, 17:00 to 23:00.",
            }
        ],
        "sources": [SOURCE],
        "has_ended": False,
        "input_tokens": 310,
        "output_tokens": 12,
    },
    "KeyRequest": {"name": "ci", "scopes": ["read", "write"]},
    "KeyView": KEY,
    "NewKeyView": KEY | {"token": f"{KEY_ID}_{'x' * 43}"},
    "SecretValue": {"value": "sk-..."},
    "SecretView": SECRET,
    "AuditView": AUDIT,
    "Health": {"status": "ok"},
    "PageView_AgentView_": _page(AGENT),
    "PageView_VersionView_": _page(VERSION),
    "PageView_FunctionView_": _page(FUNCTION),
    "PageView_KnowledgeBaseView_": _page(BASE),
    "PageView_DocumentView_": _page(DOCUMENT),
    "PageView_KeyView_": _page(KEY),
    "PageView_SecretView_": _page(SECRET),
    "PageView_AuditView_": _page(AUDIT),
    "MessageView": MESSAGE,
    "PageView_MessageView_": _page(MESSAGE),
    **OUTGOING,
}

DETAILS = {
    400: "the body is not JSON in UTF-8: JSON is malformed: expected ',' or '}' (byte 17)",
    401: "send a valid API key: Authorization: Bearer rtk_... (`rtcore keys create` makes one)",
    403: "this key has not the scope write (it has: read)",
    404: f"there is no agent {AGENT_ID}",
    408: "the body did not come within 60 s: send it again",
    409: f"function {FUNCTION_ID} is in use by agent {AGENT_ID}: detach it there first",
    412: "the resource has changed since; it is at revision 3 now: GET it again and send its ETag"
    " in If-Match",
    413: "the body may have 524288 octets: send less",
    416: "the recording has 1600058 octets: ask for some of them",
    415: "send JSON, and say so: Content-Type: application/json",
    422: "name: Object missing required field `name`",
    428: "say which revision you change: send the ETag of your last GET in If-Match",
    429: "too many requests with this key: ask again in 0.52 s",
    500: "a fault of ours: tell the operator the request id",
    502: "openai did not answer: try again",
    503: "the database did not answer (OperationalError)",
    504: "the agent took too long: try again",
}


def problem_example(status: HTTPStatus) -> dict[str, Any]:
    """A problem as one with ``status`` looks."""
    example: dict[str, Any] = {
        "type": f"urn:rtcore:problem:{status.phrase.lower().replace(' ', '-')}",
        "title": status.phrase,
        "status": int(status),
        "detail": DETAILS[status],
        "request_id": "5f2b1c9a7d3e4f60",
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        message = "Object missing required field `name`"
        example["errors"] = [{"field": "name", "message": message}]
    if status == HTTPStatus.CONFLICT:
        example["users"] = [{"kind": "agent", "id": AGENT_ID, "name": "Trattoria Roma"}]
    return example
