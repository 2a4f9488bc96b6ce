"""The front door: ``rtcore serve | demo | call | fake-plivo | doctor | replay | keys | db``.

Each command's work is in its module of ``rtcore.commands``, imported when it is asked for: a
node needs no drawing, a drawing no providers.
"""

from __future__ import annotations

import logging
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import structlog
import trio
import typer

from rtcore.errors import ConfigError, RtcoreError

if TYPE_CHECKING:
    from rtcore.node import NodeConfig

__all__ = ["app", "main"]

BAD_USAGE, FAILED = 2, 1

app = typer.Typer(
    help="Real-time voice agents on the telephone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
KEPT = "What is kept"  # a panel of its own: beside the rest its names would be cut short
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
KeepDays = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=36_500,
        metavar="DAYS",
        rich_help_panel=KEPT,
        help="With a database: erased after so long; else never.",
    ),
]
Socket = Annotated[
    Literal["fast", "portable"], typer.Option(help="What the media socket is made of.")
]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8080,
    agent: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The agent, as TOML.")
    ] = None,
    public_url: Annotated[str, typer.Option(help="https://… as the carrier dials it.")] = "",
    socket: Socket = "fast",
    calls_max: Annotated[
        int, typer.Option(min=1, max=100_000, help="Refuse calls past so many.")
    ] = 1000,
    drain_s: Annotated[
        float, typer.Option(min=0, max=86_400, help="For calls to end on SIGTERM.")
    ] = 300.0,
    records: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, rich_help_panel=KEPT, help="Append each call's record, as JSON."
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let anybody in, from anywhere.")
    ] = False,
    allow_private_urls: Annotated[
        bool,
        typer.Option(
            "--allow-private-urls",
            help="With a database: services and webhooks may be on private addresses.",
        ),
    ] = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log JSON lines, for machines.")
    ] = False,
    voice: Annotated[
        Literal["webrtc", "silero"], typer.Option(help="What tells voice from noise.")
    ] = "webrtc",
    database: Annotated[
        str | None,
        typer.Option(
            envvar="RTCORE_DATABASE",
            help="Serve the management API too, kept here: sqlite:///… or postgresql://…",
        ),
    ] = None,
    media_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="With a database: media on its own port.")
    ] = None,
    node_url: Annotated[
        str, typer.Option(help="With a database: https://… of this node alone, for its media.")
    ] = "",
    heartbeat_s: Annotated[
        float,
        typer.Option(min=0.05, max=60, help="Between nodes; one silent for four of them is dead."),
    ] = 5.0,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that share the port: one for each core.")
    ] = 1,
    pin: Annotated[
        bool, typer.Option("--pin", help="Keep each worker on a core of its own.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Health and metrics of all workers, in one place."),
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Where that listens: it asks for no key.")] = (
        "127.0.0.1"
    ),
    tls_cert: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Speak TLS: the chain, PEM. Portable only."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The key of that, PEM.")
    ] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            rich_help_panel=KEPT,
            help="Where calls go whose agent wants a recording.",
        ),
    ] = None,
    keep_recordings_days: KeepDays = None,
    keep_transcripts_days: KeepDays = None,
    keep_calls_days: KeepDays = None,
    keep_audit_days: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=36_500,
            metavar="DAYS",
            rich_help_panel=KEPT,
            help="With a database: of the audit log; 365 if not said.",
        ),
    ] = None,
    worker: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,  # a supervisor's
) -> None:
    """Answer calls until SIGTERM, then drain: one agent, or with --database all of an API's.

    Set RTCORE_SECRET to require media tokens, RTCORE_PLIVO_AUTH_TOKEN to
    require signatures; with a database RTCORE_PLIVO_AUTH_ID too, to make calls
    and number them.
    """
    from rtcore.commands.serve import ServeOptions
    from rtcore.commands.serve import serve as run
    from rtcore.media.in_wait import BeatingClock

    if database is None:
        _refuse(
            media_port=media_port,
            node_url=node_url or None,
            allow_private_urls=allow_private_urls or None,
            keep_recordings_days=keep_recordings_days,
            keep_transcripts_days=keep_transcripts_days,
            keep_calls_days=keep_calls_days,
            keep_audit_days=keep_audit_days,
        )
    _log(as_json=log_json or not sys.stderr.isatty())
    _allow_files()
    node = _node(socket, calls_max=calls_max, drain_s=drain_s, voice=voice)
    tls = _tls(tls_cert, tls_key, database)
    if worker is not None:
        structlog.contextvars.bind_contextvars(worker=worker)
    elif workers > 1 or metrics_port is not None:
        from rtcore.commands.workers import WorkersOptions
        from rtcore.commands.workers import serve as run_workers

        shared = WorkersOptions(
            arguments=tuple(sys.argv[1:]),
            workers=workers,
            host=host,
            port=port,
            media_port=media_port,
            database=database,
            drain_s=drain_s,
            is_pinned=pin,
            metrics_host=metrics_host,
            metrics_port=metrics_port,
        )
        raise typer.Exit(trio.run(run_workers, shared))
    if database is not None:
        from api.standalone import StandaloneOptions
        from api.standalone import serve as run_all

        if agent is not None or records is not None:
            raise ConfigError("database", "agents and records are kept there: leave the other out")
        all_options = StandaloneOptions(
            database=database,
            host=host,
            port=port,
            media_port=media_port,
            public_url=public_url,
            node_url=node_url,
            heartbeat_s=heartbeat_s,
            is_insecure=insecure,
            allow_private_urls=allow_private_urls,
            recordings=recordings,
            keep_recordings_days=keep_recordings_days,
            keep_transcripts_days=keep_transcripts_days,
            keep_calls_days=keep_calls_days,
            keep_audit_days=keep_audit_days,
            worker=worker,
            node=node,
        )
        trio.run(run_all, all_options, clock=BeatingClock())
        return
    options = ServeOptions(
        host=host,
        port=port,
        agent=agent,
        public_url=public_url,
        is_insecure=insecure,
        records=records,
        recordings=recordings,
        tls=tls,
        worker=worker,
        node=node,
    )
    trio.run(run, options, clock=BeatingClock())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the recording and the picture go.")] = Path(
        "out"
    ),
    socket: Socket = "fast",
    as_json: AsJson = False,
) -> None:
    """Hold a whole call on this machine, with no key and no network, and show its timing."""
    from rtcore.commands.demo import DemoOptions, run

    raise typer.Exit(run(DemoOptions(out=out, as_json=as_json, node=_node(socket))))


@app.command()
def call(
    url: Annotated[str, typer.Option(help="ws://host:port/path of a node.")],
    wav: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="What the caller says.")
    ] = None,
    say: Annotated[str | None, typer.Option(help="The same, as text to be spoken.")] = None,
    interrupt_after_ms: Annotated[
        int | None, typer.Option(min=1, help="Talk over each answer when it has lasted so long.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Stereo WAV: caller left, what they heard right.")
    ] = None,
    calls: Annotated[int, typer.Option(min=1, help="So many callers at once.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0, help="Ask again for so long.")] = None,
    as_json: AsJson = False,
) -> None:
    """Call a node as the carrier does, and tell what was heard.

    Exit status: 0 every caller heard an answer to what they said;
    1 one did not, or a line broke before its caller hung up;
    2 wrong usage; 3 no connection, or a call was refused; 130 interrupted.
    """
    from rtcore.commands.call import CallOptions, run

    options = CallOptions(
        url=url,
        wav=wav,
        say=say,
        interrupt_after_ms=interrupt_after_ms,
        record=record,
        as_json=as_json,
        calls=calls,
        seconds=seconds,
    )
    raise typer.Exit(run(options))


@app.command("fake-plivo")
def fake_plivo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 9090,
    number: Annotated[list[str] | None, typer.Option(help="A number you have; repeat it.")] = None,
) -> None:
    """Be the carrier, on this machine: Plivo's API, and telephones that do as they are told."""
    from rtcore.commands.fake_plivo import FakePlivoOptions, run

    _log(as_json=not sys.stderr.isatty())
    numbers = tuple(number) if number else FakePlivoOptions().numbers
    trio.run(run, FakePlivoOptions(port=port, numbers=numbers))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Tell what is installed, what is usable, and what a missing piece needs."""
    from rtcore.commands.doctor import report

    raise typer.Exit(report(as_json=as_json))


@app.command()
def replay(
    wav: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="A recorded call: caller left, agent right."
        ),
    ],
    preset: Annotated[str, typer.Option(help="eager, balanced or patient.")] = "balanced",
    against: Annotated[str | None, typer.Option(help="Show what changes from this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a recorded stereo call through a turn-taking preset, and compare."""
    from rtcore.commands.replay import replay as run

    raise typer.Exit(run(wav, preset, against, json=as_json))


keys = typer.Typer(help="API keys, and the key of the secrets.", no_args_is_help=True)
db = typer.Typer(help="The management API's database.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(db, name="db")
Database = Annotated[
    str, typer.Option(envvar="RTCORE_DATABASE", help="sqlite:///… or postgresql://…")
]
DEFAULT_DATABASE = "sqlite:///rtcore.db"


@keys.command("create")
def keys_create(
    scope: Annotated[list[str], typer.Option(help="read, write, calls or admin; repeat it.")],
    name: Annotated[str, typer.Option(help="Whose it is.")] = "cli",
    expires_in_s: Annotated[float | None, typer.Option(min=1)] = None,
    database: Database = DEFAULT_DATABASE,
) -> None:
    """Make an API key and print it: it is shown this once, and kept only as a hash."""
    from api.admin import create_api_key, upgrade_database

    upgrade_database(database)  # the first key comes before the first start
    typer.echo(create_api_key(database, name, scope, expires_in_s=expires_in_s))


@keys.command("secret")
def keys_secret() -> None:
    """Print a new key for RTCORE_SECRET_KEYS, which encrypts the providers' keys at rest."""
    from api.admin import create_secret_key

    typer.echo(create_secret_key())


@db.command("upgrade")
def db_upgrade(database: Database = DEFAULT_DATABASE) -> None:
    """Bring the database to the newest shape; harmless to repeat."""
    from api.admin import upgrade_database

    upgrade_database(database)


def main() -> None:
    """The console script: exit status 0 well, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except ConfigError as exc:
        typer.echo(f"rtcore: {exc}", err=True)
        sys.exit(BAD_USAGE)
    except (RtcoreError, OSError) as exc:
        typer.echo(f"rtcore: {exc}", err=True)
        sys.exit(FAILED)
    except ModuleNotFoundError as exc:
        typer.echo(f"rtcore: {exc.name} is not installed; see `rtcore doctor`", err=True)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


def _node(socket: str, **settings: object) -> NodeConfig:
    from rtcore.node import NodeConfig

    try:
        return msgspec.convert({"socket": socket, **settings}, NodeConfig)
    except msgspec.ValidationError as exc:
        raise ConfigError("serve", str(exc)) from exc


def _refuse(**needing_database: object) -> None:
    """What would mean nothing is refused: nobody is to believe that something is erased."""
    for name, value in needing_database.items():
        if value is not None:
            raise ConfigError(name.replace("_", "-"), "means nothing without --database")


def _tls(cert: Path | None, key: Path | None, database: str | None) -> tuple[Path, Path] | None:
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigError("tls-key" if key is None else "tls-cert", "is missing: both are needed")
    if database is not None:
        raise ConfigError("tls-cert", "API and media share a port: put TLS in front (a proxy)")
    return cert, key


def _allow_files() -> None:
    """Open as many files as the system lets us: a call is a socket, a recorded one a file too."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _log(*, as_json: bool) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
