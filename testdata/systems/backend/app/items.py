"""Items, and where they are kept."""

import json
from pathlib import Path
from typing import Protocol

from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, Field


class NewItem(BaseModel):
    """What a client says about an item."""

    name: str = Field(min_length=1, max_length=100)
    price: int = Field(ge=0, description="in cents")


class Item(NewItem):
    """An item that is kept."""

    id: int


class Items(Protocol):
    """Where items are kept."""

    kind: str

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def ping(self) -> None: ...
    async def all(self) -> list[Item]: ...
    async def get(self, number: int) -> Item | None: ...
    async def add(self, new: NewItem) -> Item: ...
    async def remove(self, number: int) -> bool: ...


class MemoryItems:
    """Kept in memory, and lost with the process."""

    kind = "memory"

    def __init__(self) -> None:
        self._items: dict[int, Item] = {}
        self._last = 0

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def ping(self) -> None:
        pass

    async def all(self) -> list[Item]:
        return list(self._items.values())

    async def get(self, number: int) -> Item | None:
        return self._items.get(number)

    async def add(self, new: NewItem) -> Item:
        self._last += 1
        item = Item(id=self._last, **new.model_dump())
        self._items[item.id] = item
        return item

    async def remove(self, number: int) -> bool:
        return self._items.pop(number, None) is not None


TABLE = """
create table if not exists items (
    id bigint generated always as identity primary key, name text not null, price bigint not null
)
"""


class PostgresItems:
    """Kept in PostgreSQL."""

    kind = "postgres"

    def __init__(self, url: str, database: str) -> None:
        address = make_conninfo(url, dbname=database)
        self._pool = AsyncConnectionPool(address, min_size=0, max_size=8, timeout=5, open=False)

    async def open(self) -> None:
        await self._pool.open()
        async with self._pool.connection() as connection:
            # `if not exists` races with itself where several workers start at once.
            await connection.execute("select pg_advisory_xact_lock(20391)")
            await connection.execute(TABLE)

    async def close(self) -> None:
        await self._pool.close()

    async def ping(self) -> None:
        await self._rows("select 1, '', 0")

    async def all(self) -> list[Item]:
        return await self._rows("select id, name, price from items order by id")

    async def get(self, number: int) -> Item | None:
        found = await self._rows("select id, name, price from items where id = %s", number)
        return found[0] if found else None

    async def add(self, new: NewItem) -> Item:
        text = "insert into items (name, price) values (%s, %s) returning id, name, price"
        return (await self._rows(text, new.name, new.price))[0]

    async def remove(self, number: int) -> bool:
        text = "delete from items where id = %s returning id, 'gone', 0"
        return bool(await self._rows(text, number))

    async def _rows(self, text: str, *values: object) -> list[Item]:
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(text, values)).fetchall()
        return [Item.model_construct(id=id, name=name, price=price) for id, name, price in rows]


async def seed(items: Items, file: Path) -> None:
    """Adds the test data, if nothing is there."""
    if not await items.all():
        for one in json.loads(file.read_text()):
            await items.add(NewItem(**one))
