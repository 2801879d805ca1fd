"""What the dialects share as servers: who may ask, whose turn it is, and how they are started.

    python -m monailabel_app.nninteractive.serving --dialect nninteractive --port 1527

``scripts/serve.py --dialect`` does that. The dialect of nnInteractive 2 has keys, so it may serve others than this
machine under the same conditions as the MONAI Label server (docs/deploy.md). The clients of the other two can send no
key: they are served on this machine alone, for others through a tunnel.
"""

from __future__ import annotations

import argparse
import logging
import logging.config
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from bundle.data import guarded
from bundle.data.limits import LIMITS
from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.errors import explain_errors
from bundle.interactive.journal import Journal
from bundle.interactive.segmenter import Segmenter
from bundle.interactive.session import InteractiveSession
from monailabel_app.nninteractive.command import PORTS
from monailabel_app.nninteractive.workbench import Opener
from monailabel_app.server.access import Accounts, Role, Routes, SettingsError
from monailabel_app.server.audit_log import AuditLog
from monailabel_app.server.body_limits import SmallBodies
from monailabel_app.server.gate import Gate, account_of
from monailabel_app.server.leaving import cancelled_when_left
from monailabel_app.server.lingering import LingeringProtocol
from monailabel_app.server.logs import log_config
from monailabel_app.server.metrics import Metrics
from monailabel_app.server.origins import OwnPagesOnly
from monailabel_app.server.reach import HOST, answered_hosts, check_reach, is_loopback
from monailabel_app.server.safe_headers import SafeHeaders
from monailabel_app.server.watch import Watch
from monailabel_app.tasks.kept import OPTIONS as KEPT
from monailabel_app.tasks.kept import Kept, purged
from monailabel_app.work import WorkQueue, doing, rest, turn

logger = logging.getLogger(__name__)

OPTIONS = ("family", "checkpoint", "device", "engine", *KEPT)
Answer = TypeVar("Answer")


def add_queue(app: FastAPI) -> None:
    """Give a server its queue, and bound the bodies that it takes."""
    app.state.queue = WorkQueue(
        places=LIMITS.requests, wait_seconds=LIMITS.wait_seconds, work_seconds=LIMITS.work_seconds
    )
    app.state.threads = CapacityLimiter(LIMITS.requests)
    app.add_middleware(SmallBodies)


async def answered(request: Request, user: str, what: str, image: object, work: Callable[[], Answer]) -> Answer:
    """Do a work in a thread once it is its turn, and give it up when the client leaves; its body has been read."""
    with request.app.state.queue.admitted(user, what) as job:

        def run() -> Answer:
            with doing(job), turn(id(image)):
                return work()

        async with cancelled_when_left(request, job):
            return await to_thread.run_sync(run, limiter=request.app.state.threads)


@contextmanager
def having_turn(request: Request, user: str, what: str) -> Iterator[None]:
    """Have the device while the block runs, in the thread of a route."""
    with request.app.state.queue.admitted(user, what) as job, doing(job), turn(user):
        yield


def needed_role(method: str, path: str) -> Role | None:
    """Who may annotate may do all there is; everybody may ask whether the server runs, who may look for its numbers."""
    return {("GET", "/healthz"): None, ("GET", "/metrics"): Role.view}.get((method, path), Role.annotate)


def user_of(request: Request) -> str:
    """The account of a request that has passed the gate."""
    account = account_of(request.scope)
    return "local" if account is None else account.name


def protected(
    app: FastAPI,
    accounts: Accounts | None,
    *,
    audit: AuditLog | None = None,
    prepared: PreparedCache | None = None,
) -> FastAPI:
    """Let in who may come, before anything of a request is read, and note what was asked.

    Args:
        app: the server of a dialect.
        accounts: who may come; None lets programs of this machine do everything.
        audit: the log; None writes none.
        prepared: the prepared slices, whose bytes are told.
    """

    def held() -> dict[str, int]:
        memory, disk = (prepared.held_bytes, prepared.disk_bytes) if prepared is not None else (0, 0)
        return {"open_images": len(app.state.open_works), "cache_bytes": memory, "disk_bytes": disk}

    metrics = Metrics(app.state.queue, held)

    @app.get("/metrics")
    def numbers() -> Response:
        """Seven numbers in the text form of Prometheus."""
        text, media_type = metrics.text()
        return Response(text, headers={"Content-Type": media_type})

    paths = app.openapi()["paths"]
    routes = Routes((method.upper(), path) for path, methods in paths.items() for method in methods)
    app.add_middleware(Gate, accounts=accounts, needed=needed_role)
    app.add_middleware(OwnPagesOnly)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=answered_hosts())
    app.add_middleware(SafeHeaders)
    app.add_middleware(Watch, metrics=metrics, audit=audit, route_of=routes.of)
    return app


def opener(segmenter: Segmenter, kept_in: Path | None) -> Opener:
    """Opens images with a model; a user's session of an image goes on where it was."""

    def open_session(volume: Volume, user: str, digest: str) -> InteractiveSession:
        journal = None if kept_in is None else Journal.of(kept_in, volume, user, digest=digest, idle=rest)
        return segmenter.open(volume, journal=journal)

    return open_session


def make_app(dialect: str, open_session: Opener, accounts: Accounts | None, license: str, **watched: Any) -> FastAPI:
    """The server of a dialect; ``watched`` are the options of ``protected``."""
    from monailabel_app.nninteractive import app, itksnap, slicer

    if dialect == "nninteractive":
        made = app.create_app(open_session, user_of=user_of, license=license)
    else:
        made = slicer.create_app(open_session) if dialect == "slicer" else itksnap.create_app(open_session)
    return protected(made, accounts, **watched)


def main(arguments: list[str] | None = None) -> None:
    """Load the model, then listen."""
    explain_errors()
    args = parse_arguments(arguments)
    has_tls = bool(args.tls_certificate and args.tls_key)
    check_reach(args.host, has_tls=has_tls)
    if args.dialect != "nninteractive" and not is_loopback(args.host):
        raise SettingsError(
            f"clients of the dialect {args.dialect} send no key, so it is served on this machine only; leave --host "
            "out, and let others come through an SSH tunnel"
        )
    conf = dict(args.conf)
    if unknown := sorted(set(conf) - set(OPTIONS)):
        raise SettingsError(f"unknown option {unknown[0]!r} in --conf; known are {', '.join(OPTIONS)}")
    logging.config.dictConfig(log_config())
    kept = Kept.of(conf)
    segmenter = Segmenter.from_family(
        conf.get("family", "default"),
        checkpoint=conf.get("checkpoint"),
        device=conf.get("device"),
        engine=conf.get("engine", "auto"),
        store=kept.prepared,
    )
    guarded.start()
    logger.info("%s", kept)
    license = (segmenter.family.checkpoint or {}).get("licence") or "not said by those who published the weights"
    watched = {"audit": AuditLog.from_environment(), "prepared": kept.prepared}
    made = make_app(args.dialect, opener(segmenter, kept.sessions), Accounts.from_environment(), license, **watched)
    tls = {"ssl_certfile": args.tls_certificate, "ssl_keyfile": args.tls_key} if has_tls else {}
    logger.info("%s's clients find %s at port %d", args.dialect, segmenter.family.name, args.port)
    with purged(kept.purge):
        uvicorn.run(made, http=LingeringProtocol, host=args.host, port=args.port, log_config=None, **tls)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; ``scripts/serve.py`` has the same words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dialect", choices=sorted(PORTS), default="nninteractive")
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int)
    parser.add_argument("--tls-certificate")
    parser.add_argument("--tls-key")
    parser.add_argument("--conf", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    args = parser.parse_args(arguments)
    args.port = PORTS[args.dialect] if args.port is None else args.port
    return args


if __name__ == "__main__":
    main()
