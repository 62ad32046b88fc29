"""One answer, by a framework and a server of the Python Package Index."""

import os

import bottle
import waitress


@bottle.get("/health")
def health():
    return {"status": "ok", "service": "python"}


waitress.serve(bottle.default_app(), host="0.0.0.0", port=int(os.environ.get("PORT", "8080")))
