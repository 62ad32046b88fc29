"""`python -m app`: serves until SIGTERM."""

import signal
import sys

import uvicorn

from app.main import create_app
from app.settings import Settings


def application():
    """For uvicorn's reloader, which imports the application anew."""
    return create_app(Settings())


if __name__ == "__main__":
    # uvicorn ends its work and then raises the signal again: to have stopped well is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = Settings()
    uvicorn.run(
        "app.__main__:application" if settings.debug else create_app(settings),
        factory=settings.debug,
        reload=settings.debug,
        host="0.0.0.0",
        port=settings.port,
        log_level=settings.log_level,
        timeout_graceful_shutdown=5,
    )
