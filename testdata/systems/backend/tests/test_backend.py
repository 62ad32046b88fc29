import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from app.items import MemoryItems
from app.main import create_app
from app.settings import Settings

CONFIG = Path(__file__).parent.parent / "config"


def settings(environment: str) -> Settings:
    return Settings(_env_file=CONFIG / f"{environment}.env")


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_health(path):
    with TestClient(create_app(settings("prod"))) as client:
        answer = client.get(path)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["service"]) == ("ok", "backend")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
    assert body["details"] == {"environment": "prod", "storage": "memory"}


def test_health_without_its_database():
    class Gone(MemoryItems):
        async def ping(self):
            raise ConnectionError("gone")

    with TestClient(create_app(settings("prod"), Gone())) as client:
        assert client.get("/health").status_code == 503
        assert client.get("/health/live").status_code == 200


def test_items():
    with TestClient(create_app(settings("dev"))) as client:
        made = client.post("/items", json={"name": "tea", "price": 350})
        assert made.status_code == 201
        address = f"/items/{made.json()['id']}"
        assert client.get(address).json()["name"] == "tea"
        assert client.post("/items", json={"name": "", "price": -1}).status_code == 422
        assert client.delete(address).status_code == 204
        assert client.get(address).status_code == 404


def test_changes_need_the_key(monkeypatch):
    monkeypatch.setenv("API_KEY", "k" * 32)
    with TestClient(create_app(settings("prod"))) as client:
        tea = {"name": "tea", "price": 350}
        assert client.get("/items").status_code == 200
        assert client.post("/items", json=tea).status_code == 401
        assert client.post("/items", json=tea, headers={"X-API-Key": "k" * 32}).status_code == 201


def test_environments_differ_where_they_must():
    ports = {name: settings(name).port for name in ("dev", "stage", "prod")}
    assert ports == {"dev": 8000, "stage": 8001, "prod": 8000}
    assert len({settings(name).database_name for name in ports}) == 3
    with TestClient(create_app(settings("dev"))) as client:
        assert client.get("/docs").status_code == 200
        assert client.get("/metrics").status_code == 404
        assert client.get("/items").json() == []
    with TestClient(create_app(settings("stage"))) as client:
        assert len(client.get("/items").json()) == 2
    with TestClient(create_app(settings("prod"))) as client:
        assert client.get("/docs").status_code == 404
        assert client.get("/openapi.json").status_code == 404
        client.get("/nothing-here")
        assert 'route="none"' in client.get("/metrics").text


def test_a_wrong_environment_is_refused(monkeypatch):
    monkeypatch.setenv("API_KEY", "short")
    with pytest.raises(ValidationError, match="at least 32"):
        settings("prod")
