"""The application: its routes, its errors, and what it opens and closes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from api import problems
from api.routes import backup, deletions, health, images, jobs, page, searches
from api.services import Services, require_key
from pipeline.settings import Settings


def create_app(settings: Settings) -> ASGIApp:
    """Opens nothing that blocks: with Redis away it starts, and answers 503."""
    services = Services.open(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with services.waiting:
            yield
        services.ledger.close()

    app = FastAPI(
        title="Kindred",
        description="Similar-case image search for imaging departments",
        version="1",
        lifespan=lifespan,
        responses=problems.DOCUMENTED,
        max_body_size=settings.max_upload_mb * 1_000_000,
    )
    app.state.services = services
    problems.install(app)
    app.include_router(health.router)
    for resource in (jobs, searches, deletions, images, backup):
        app.include_router(resource.router, dependencies=[Depends(require_key)])
    page.mount(app)
    return problems.TooLargeAsProblem(app, settings.max_upload_mb)
