"""The web server: MONAI Label's routes that this app needs, and none of the others.

Started by ``monailabel start_server --uvicorn_app monailabel_app.server.app:app`` (scripts/serve.py does). It differs
from ``monailabel.app`` in what measuring and reading that server taught:

- who may do what is decided before anything of a request is read (``gate``), for each route there is (``access``);
- an inference runs in a thread, in its turn (``work``), so that ``/info/`` answers meanwhile (upstream's routes block
  the event loop), and ends when its client leaves;
- an error is a 4xx with one sentence instead of a bare 500;
- an image is an id of the datastore, a session or an upload, never a path of the server;
- a training runs in a process of its own, with options of an allow-list (``learning``), where upstream evaluates what
  a request says;
- absent are the routes that replace model weights, unpack archives, write through the DICOM proxy, show logs or reload
  the app;
- only its own names are answered (a web page elsewhere could otherwise reach the server by its own), and web pages of
  other origins change nothing;
- every body and form has a limit of size.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Protocol, runtime_checkable

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from monailabel.config import settings
from monailabel.endpoints import proxy
from monailabel.interfaces.utils.app import app_instance
from requests.exceptions import RequestException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from bundle.data.limits import LIMITS
from monailabel_app.datastore.address import is_dicomweb
from monailabel_app.errors import RequestError, install_error_replies
from monailabel_app.server import (
    batch_routes,
    datastore_routes,
    home,
    infer_routes,
    login,
    next_sample,
    scoring_routes,
    session_routes,
    state_routes,
    train_routes,
    viewer,
)
from monailabel_app.server.access import Accounts
from monailabel_app.server.admission import Admission
from monailabel_app.server.audit_log import AuditLog
from monailabel_app.server.body_limits import FORM_LIMITS, SmallBodies
from monailabel_app.server.dicomweb_paths import checked_dicomweb_path
from monailabel_app.server.gate import Gate
from monailabel_app.server.metrics import Metrics
from monailabel_app.server.origins import OwnPagesOnly
from monailabel_app.server.reach import answered_hosts, check_old_login_is_off
from monailabel_app.server.safe_headers import SafeHeaders
from monailabel_app.server.watch import Watch
from monailabel_app.tasks.kept import Kept, purged
from monailabel_app.work import WorkQueue

logger = logging.getLogger(__name__)


@runtime_checkable
class HoldsImages(Protocol):
    """An app that can say what it keeps of images, and remove of it what is too old."""

    kept: Kept

    def held(self) -> Mapping[str, int]:
        """``open_images``, ``cache_bytes`` and ``disk_bytes``."""


router = APIRouter()


@router.get("/proxy/dicom/{op}/{path:path}")
def read_dicomweb(request: Request, op: str, path: str) -> Response:
    """Let OHIF read from the DICOMweb server that the app was started with; reading only."""
    if not is_dicomweb(settings.MONAI_LABEL_STUDIES):
        raise RequestError("this server was started with a folder, so there is no DICOMweb server to read", status=404)
    try:
        return asyncio.run(proxy.proxy_dicom(request, op, checked_dicomweb_path(op, path)))
    except RequestException as error:
        raise RequestError(f"the DICOMweb server gives no answer ({type(error).__name__})", status=502) from error


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    instance = app_instance()
    instance.server_mode(True)
    instance.on_init_complete()
    if app.state.accounts is None:
        logger.info("No accounts are set: programs of this machine may do everything, others nothing")
    learner = instance.learner if isinstance(instance, train_routes.Learns) else None
    if learner is not None:
        learner.start(busy=lambda: len(app.state.queue) > 0)
    try:
        with purged(instance.kept.purge) if isinstance(instance, HoldsImages) else nullcontext():
            yield
    finally:
        if learner is not None:
            learner.close()


def create_app() -> FastAPI:
    """The server: our routes alone, none of MONAI Label's.

    Raises:
        SettingsError: accounts, names or logs that cannot be used, or MONAI Label's login was asked for.
    """
    check_old_login_is_off(settings.MONAI_LABEL_AUTH_ENABLE)
    app = FastAPI(title="monai-sam", docs_url=None, redoc_url=None, lifespan=_lifespan, form_limits=FORM_LIMITS)
    app.state.accounts = Accounts.from_environment()
    app.state.queue = WorkQueue(
        places=LIMITS.requests, wait_seconds=LIMITS.wait_seconds, work_seconds=LIMITS.work_seconds
    )
    app.state.metrics = Metrics(app.state.queue, _held)
    origins = [str(origin).rstrip("/") for origin in settings.MONAI_LABEL_CORS_ORIGINS]
    # The last one that is added is the first that a request meets.
    app.add_middleware(SmallBodies)
    app.add_middleware(Admission, most=LIMITS.uploads)
    app.add_middleware(Gate, accounts=app.state.accounts)
    app.add_middleware(OwnPagesOnly, origins=origins)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=answered_hosts())
    app.add_middleware(SafeHeaders)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(Watch, metrics=app.state.metrics, audit=AuditLog.from_environment())
    install_error_replies(app)
    ours = (
        state_routes,
        login,
        home,
        infer_routes,
        datastore_routes,
        session_routes,
        next_sample,
        train_routes,
        scoring_routes,
        batch_routes,
        viewer,
    )
    for module in ours:
        app.include_router(module.router)
    app.include_router(router)
    return app


def _held() -> Mapping[str, int]:
    app = app_instance()
    return app.held() if isinstance(app, HoldsImages) else {}


app = create_app()
