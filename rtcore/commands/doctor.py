"""``rtcore doctor``: what is installed, what is usable, what a missing piece needs."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Iterator

import msgspec
from rich.console import Console
from rich.table import Table

__all__ = ["Finding", "examine", "report"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at; ``fix`` says what to do where it is not well."""

    what: str
    is_needed: bool
    is_well: bool
    state: str
    fix: str = ""


EXTRAS = {
    "embedded": ("espeakng_loader", "pocketsphinx", "numpy"),
    "plots": ("matplotlib",),
    "silero": ("onnxruntime",),
    "api": ("quart_trio", "hypercorn", "quart_schema", "sqlalchemy", "alembic"),
    "postgres": ("psycopg",),
}
KEYS = {
    "Deepgram": "DEEPGRAM_API_KEY",
    "AssemblyAI": "ASSEMBLYAI_API_KEY",
    "OpenAI": "OPENAI_API_KEY",
    "Anthropic": "ANTHROPIC_API_KEY",
    "Google Gemini": "GEMINI_API_KEY",
    "ElevenLabs": "ELEVENLABS_API_KEY",
    "Cartesia": "CARTESIA_API_KEY",
}
SETTINGS = {  # of a node: what each is for, its name, and what makes it
    "media tokens": ("RTCORE_SECRET", "make one: openssl rand -hex 32"),
    "carrier's signatures": ("RTCORE_PLIVO_AUTH_TOKEN", "from Plivo's console"),
    "carrier's account": ("RTCORE_PLIVO_AUTH_ID", "from Plivo's console"),
    "keys encrypted at rest": ("RTCORE_SECRET_KEYS", "make one: rtcore keys secret"),
}


def examine() -> Iterator[Finding]:
    """Look at this machine; nothing is sent anywhere and no key is shown."""
    version = platform.python_version()
    yield Finding(
        what="Python", is_needed=True, is_well=sys.version_info >= (3, 11), state=version,
        fix="install Python 3.11 or newer",
    )  # fmt: skip
    for module in ("rtcore._audio", "rtcore.media._frames", "rtcore.turn._guard"):
        found = importlib.util.find_spec(module) is not None
        yield Finding(
            what=module, is_needed=True, is_well=found, state="built" if found else "not built",
            fix="make build (needs a C compiler)",
        )  # fmt: skip
    is_linux = sys.platform == "linux"
    yield Finding(
        what="fast media sockets", is_needed=False, is_well=is_linux, state=sys.platform,
        fix="use --socket portable here",
    )  # fmt: skip
    for extra, modules in EXTRAS.items():
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        yield Finding(
            what=f"extra {extra}", is_needed=False, is_well=not missing,
            state="installed" if not missing else f"without {', '.join(missing)}",
            fix=f"pip install '.[{extra}]' in the checkout",
        )  # fmt: skip
    variables = {what: (name, f"export {name}=…") for what, name in KEYS.items()} | SETTINGS
    for what, (variable, fix) in variables.items():
        is_set = bool(os.environ.get(variable))
        yield Finding(
            what=what, is_needed=False, is_well=is_set,
            state=f"{variable} is {'set' if is_set else 'not set'}", fix=fix,
        )  # fmt: skip


def report(*, as_json: bool) -> int:
    """Print what :func:`examine` finds; 0 if all that is needed is well, else 1."""
    findings = list(examine())
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(findings) + b"\n")
    else:
        table = Table(box=None, pad_edge=False)
        for heading in ("", "what", "state", "what to do"):
            table.add_column(heading, overflow="fold")
        for found in findings:
            mark = "ok" if found.is_well else ("MISSING" if found.is_needed else "-")
            table.add_row(mark, found.what, found.state, "" if found.is_well else found.fix)
        Console().print(table)
    return 0 if all(found.is_well for found in findings if found.is_needed) else 1
