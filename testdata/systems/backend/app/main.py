"""The HTTP interface of the backend."""

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest

from app.items import Item, Items, MemoryItems, NewItem, PostgresItems, seed
from app.settings import Settings

SEED = Path(__file__).parent.parent / "seed" / "items.json"

log = logging.getLogger("uvicorn.error")


def create_app(settings: Settings, items: Items | None = None) -> FastAPI:
    """The whole backend."""
    kept = items or _items(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await kept.open()
        if settings.seed:
            await seed(kept, SEED)
        yield
        await kept.close()

    # Pages that explain the interface are for people who develop against it.
    docs = "/docs" if settings.debug else None
    schema = "/openapi.json" if settings.debug else None
    app = FastAPI(title="backend", debug=settings.debug, docs_url=docs, redoc_url=None,
                  openapi_url=schema, lifespan=lifespan)
    if settings.cors_origins:
        origins = settings.cors_origins.split(",")
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"])
    _health(app, settings, kept)
    _items_routes(app, settings, kept)
    if settings.metrics:
        _metrics(app)
    return app


def _items(settings: Settings) -> Items:
    if settings.database_url is None:
        log.warning("DATABASE_URL is not set: items are kept in memory and lost with this process")
        return MemoryItems()
    return PostgresItems(settings.database_url.get_secret_value(), settings.database_name)


def _health(app: FastAPI, settings: Settings, items: Items) -> None:
    def answer(status: str) -> dict[str, object]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        details = {"environment": settings.environment, "storage": items.kind}
        return {"status": status, "service": "backend", "timestamp": now, "details": details}

    @app.get("/health/live")
    async def live() -> dict[str, object]:
        """The process answers."""
        return answer("ok")

    @app.get("/health")
    @app.get("/health/ready")
    async def ready(response: Response) -> dict[str, object]:
        """The process answers, and so does what it depends on."""
        try:
            await items.ping()
        except Exception:  # whatever a database may raise, it is not ready
            log.exception("not healthy")
            response.status_code = 503
            return answer("unavailable")
        return answer("ok")


def _items_routes(app: FastAPI, settings: Settings, items: Items) -> None:
    def may_change(x_api_key: str = Header("")) -> None:
        key = settings.api_key
        if key and not secrets.compare_digest(x_api_key.encode(), key.get_secret_value().encode()):
            raise HTTPException(401, "this needs the right X-API-Key")

    changes = [Depends(may_change)]

    @app.get("/items")
    async def list_items() -> list[Item]:
        return await items.all()

    @app.post("/items", status_code=201, dependencies=changes)
    async def add_item(new: NewItem) -> Item:
        return await items.add(new)

    @app.get("/items/{number}")
    async def get_item(number: int) -> Item:
        item = await items.get(number)
        if item is None:
            raise HTTPException(404, "no such item")
        return item

    @app.delete("/items/{number}", status_code=204, dependencies=changes)
    async def remove_item(number: int) -> None:
        if not await items.remove(number):
            raise HTTPException(404, "no such item")


def _metrics(app: FastAPI) -> None:
    registry = CollectorRegistry()
    labels = ("method", "route", "status")
    requests = Counter("http_requests", "Requests answered", labels, registry=registry)

    @app.middleware("http")
    async def count(request: Request, call_next):  # noqa: ANN001, ANN202
        response = await call_next(request)
        route = request.scope.get("route")
        # Addresses that do not exist share a label, or a stranger could make as many as he likes.
        path = getattr(route, "path", "none")
        requests.labels(request.method, path, response.status_code).inc()
        return response

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
