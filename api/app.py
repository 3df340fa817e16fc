"""The application: its routes, its errors, and what it opens and closes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from api import document, problems
from api.audit import AuditLog
from api.below import BelowPath
from api.gate import Gate
from api.headers import SecurityHeaders
from api.incoming import Batcher
from api.parameters import known_parameters
from api.routes import (
    backup,
    collections,
    comparisons,
    deletions,
    evaluations,
    explanations,
    health,
    images,
    jobs,
    label_audits,
    opened,
    page,
    pseudonyms,
    quarantine,
    renderings,
    searches,
    session,
    stow,
    uploads,
)
from api.services import BASE, Services, named_collection
from pipeline.base.keys import Keys
from pipeline.base.settings import Settings

# Each stands below /v1, which is the default collection, and below /v1/collections/{collection}.
ROUTERS = (
    jobs.router,
    searches.router,
    renderings.router,
    explanations.router,
    deletions.router,
    evaluations.router,
    comparisons.router,
    uploads.router,
    images.router,
    quarantine.router,
    label_audits.router,
    backup.router,
    pseudonyms.router,
    stow.router,
)


def create_app(settings: Settings, keys: Keys) -> ASGIApp:
    """Opens nothing that blocks: if Redis is unavailable, the app starts and answers 503.

    Raises KeysUnavailable or AuditUnavailable.
    """
    services = Services.open(settings, keys)
    log = AuditLog(settings.audit_file)
    batcher = Batcher(services.default_and_opened, "stow")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        async with services.waiting:
            yield
        await run_in_threadpool(batcher.stop)
        services.ledgers.close()

    app = FastAPI(
        title="Kindred",
        description="Similar-case image search for imaging departments",
        version="1",
        lifespan=lifespan,
        generate_unique_id_function=document.name_of,
        docs_url=None,  # FastAPI's pages load their scripts from other hosts
        redoc_url=None,
    )
    app.state.services, app.state.batcher = services, batcher
    problems.install(app)
    app.add_middleware(
        Gate,
        access=services.access,
        log=log,
        root=settings.root_path,
        most=settings.max_upload_mb * 1_000_000,
        most_stow=settings.stow_mb * 1_000_000,
    )
    app.include_router(health.router)
    checked = [Depends(known_parameters)]
    app.include_router(opened.links)
    for router in (session.router, collections.router, opened.router, *ROUTERS):
        # Clients of DICOMweb expect it at the root.
        prefix = "" if router is stow.router else BASE
        app.include_router(router, prefix=prefix, dependencies=checked)
    for router in ROUTERS:
        app.include_router(
            router,
            prefix=f"{BASE}/collections/{{collection}}",
            dependencies=[*checked, Depends(named_collection)],
        )
    page.mount(app)
    document.install(app)
    return SecurityHeaders(BelowPath(app, settings.root_path))
