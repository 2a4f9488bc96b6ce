"""A PostgreSQL server of the tests' own: in a temporary directory, on a socket, never as root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

START_LIMIT_S = 60
UNPRIVILEGED = ("postgres", "nobody")  # PostgreSQL refuses to run as root


def programs() -> Path | None:
    """The directory of ``initdb`` and ``pg_ctl``, None if they are not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


def _user() -> pwd.struct_passwd | None:
    """Whom the server runs as: us, or somebody harmless if we are root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


@contextlib.contextmanager
def server() -> Iterator[str | None]:
    """The address of a running server, None if it cannot be had here."""
    where, user = programs(), _user()
    if where is None or user is None:
        yield None
        return
    # not under pytest's own directory: that one is closed to other users
    root = Path(tempfile.mkdtemp(prefix="rtcore-pg-"))
    data = root / "data"

    def run(*command: str) -> None:
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        subprocess.run(
            command,
            check=True,
            cwd=root,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdout=subprocess.DEVNULL,
            timeout=START_LIMIT_S,
            **(identity if os.geteuid() == 0 else {}),  # type: ignore[call-overload]  # kwargs
        )

    try:
        os.chown(root, user.pw_uid, user.pw_gid)
        run(str(where / "initdb"), "-D", str(data), "-U", "rtcore", "-A", "trust", "-N")
        options = f"-c listen_addresses='' -k {root} -c fsync=off -c max_connections=100"
        run(
            str(where / "pg_ctl"), "-D", str(data), "-w", "-l", str(root / "log"),
            "-o", options, "start",
        )  # fmt: skip
        try:
            yield f"postgresql://rtcore@/postgres?host={root}"
        finally:
            run(str(where / "pg_ctl"), "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(root, ignore_errors=True)
