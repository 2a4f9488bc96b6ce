"""``/docs``: the specification as a page. Its script and style are ours; it asks no other host."""

from __future__ import annotations

from importlib.resources import files

from quart import Blueprint, Response

__all__ = ["blueprint"]

blueprint = Blueprint("docs", __name__)

STATIC = files("api.web") / "static"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


def _page(name: str) -> Response:
    content = (STATIC / name).read_bytes()
    kind = TYPES[name.rpartition(".")[2]]
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return Response(content, 200, headers, content_type=f"{kind}; charset=utf-8")


@blueprint.get("/docs")
async def page() -> Response:
    return _page("docs.html")


@blueprint.get("/docs/docs.js")
async def script() -> Response:
    return _page("docs.js")


@blueprint.get("/docs/docs.css")
async def style() -> Response:
    return _page("docs.css")
