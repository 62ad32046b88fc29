import pg from "pg";
import { ConflictError } from "./errors.js";
import { log } from "./log.js";

export interface Document {
  id: string;
}

/** Documents of one kind. */
export interface Collection<T extends Document> {
  get(id: string): Promise<T | undefined>;
  find(where: Partial<T>): Promise<T[]>;
  /** Refuses a second document of the same `id` or the same unique field with [`ConflictError`]. */
  insert(document: T): Promise<T>;
  update(id: string, change: Partial<T>): Promise<T | undefined>;
  remove(id: string): Promise<boolean>;
}

/** Where documents are kept. */
export interface Database {
  /** What `/health` says about it. */
  readonly kind: "memory" | "postgres";
  collection<T extends Document>(name: string, unique?: (keyof T & string)[]): Collection<T>;
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** PostgreSQL at `url`; without one, memory, which a restart empties. */
export function openDatabase(url: string | undefined): Database {
  if (url) return new Postgres(url);
  log("warn", "DATABASE_URL is not set: data is kept in memory and lost with this process");
  return new Memory();
}

class Memory implements Database {
  readonly kind = "memory";
  readonly #collections = new Map<string, MemoryCollection<Document>>();

  collection<T extends Document>(name: string, unique: (keyof T & string)[] = []): Collection<T> {
    const known = this.#collections.get(name) ?? new MemoryCollection<Document>(name, unique);
    this.#collections.set(name, known);
    return known as unknown as Collection<T>;
  }
  async ping(): Promise<void> {}
  async close(): Promise<void> {}
}

class MemoryCollection<T extends Document> implements Collection<T> {
  readonly #documents = new Map<string, T>();

  constructor(
    private readonly name: string,
    private readonly unique: string[],
  ) {}

  async get(id: string): Promise<T | undefined> {
    return structuredClone(this.#documents.get(id));
  }
  async find(where: Partial<T>): Promise<T[]> {
    const wanted = Object.entries(where);
    const matches = (one: T) => wanted.every(([key, value]) => one[key as keyof T] === value);
    return structuredClone([...this.#documents.values()].filter(matches));
  }
  async insert(document: T): Promise<T> {
    this.#refuseTwins(document, undefined);
    this.#documents.set(document.id, structuredClone(document));
    return document;
  }
  async update(id: string, change: Partial<T>): Promise<T | undefined> {
    const old = this.#documents.get(id);
    if (!old) return undefined;
    const updated = { ...old, ...structuredClone(change) };
    this.#refuseTwins(updated, id);
    this.#documents.set(id, updated);
    return structuredClone(updated);
  }
  async remove(id: string): Promise<boolean> {
    return this.#documents.delete(id);
  }

  #refuseTwins(document: T, self: string | undefined): void {
    if (document.id !== self && this.#documents.has(document.id)) throw new ConflictError(`${this.name} ${document.id}`);
    for (const other of this.#documents.values()) {
      if (other.id === self) continue;
      const key = this.unique.find((key) => other[key as keyof T] === document[key as keyof T]);
      if (key) throw new ConflictError(`${this.name} with this ${key}`);
    }
  }
}

/** One table of JSON documents: services of this size need no more, and no migrations. */
class Postgres implements Database {
  readonly kind = "postgres";
  readonly pool: pg.Pool;
  #ready: Promise<unknown> | undefined;
  readonly #indexes: string[] = [];

  constructor(url: string) {
    this.pool = new pg.Pool({ connectionString: url, max: 8, connectionTimeoutMillis: 5000 });
    this.pool.on("error", (error) => log("error", "database connection lost", { error: error.message }));
  }

  collection<T extends Document>(name: string, unique: (keyof T & string)[] = []): Collection<T> {
    if (![name, ...unique].every((word) => /^[a-zA-Z]\w*$/.test(word))) throw new Error(`${name} is no name`);
    for (const key of unique) {
      this.#indexes.push(
        `create unique index if not exists "documents_${name}_${key}" on documents ((body->>'${key}')) where collection = '${name}'`,
      );
    }
    return new PostgresCollection<T>(name, this);
  }
  async query(text: string, values: unknown[]): Promise<pg.QueryResult> {
    // What failed once is tried again: a database may come up after its services.
    this.#ready ??= this.#prepare().catch((error) => {
      this.#ready = undefined;
      throw error;
    });
    await this.#ready;
    return this.pool.query(text, values);
  }
  async ping(): Promise<void> {
    await this.query("select 1", []);
  }
  async close(): Promise<void> {
    await this.pool.end();
  }

  async #prepare(): Promise<void> {
    const client = await this.pool.connect();
    try {
      // `if not exists` races with itself, and several services start at once.
      await client.query("begin; select pg_advisory_xact_lock(20391)");
      await client.query(
        "create table if not exists documents (collection text, id text, body jsonb not null, primary key (collection, id))",
      );
      for (const index of this.#indexes) await client.query(index);
      await client.query("commit");
    } catch (error) {
      await client.query("rollback").catch(() => undefined);
      throw error;
    } finally {
      client.release();
    }
  }
}

class PostgresCollection<T extends Document> implements Collection<T> {
  constructor(
    private readonly name: string,
    private readonly database: Postgres,
  ) {}

  async get(id: string): Promise<T | undefined> {
    return (await this.#rows("select body from documents where collection = $1 and id = $2", [id]))[0];
  }
  async find(where: Partial<T>): Promise<T[]> {
    return this.#rows("select body from documents where collection = $1 and body @> $2 order by id", [JSON.stringify(where)]);
  }
  async insert(document: T): Promise<T> {
    await this.#rows("insert into documents values ($1, $2, $3)", [document.id, JSON.stringify(document)]);
    return document;
  }
  async update(id: string, change: Partial<T>): Promise<T | undefined> {
    const text = "update documents set body = body || $3 where collection = $1 and id = $2 returning body";
    return (await this.#rows(text, [id, JSON.stringify(change)]))[0];
  }
  async remove(id: string): Promise<boolean> {
    return (await this.#rows("delete from documents where collection = $1 and id = $2 returning body", [id])).length > 0;
  }

  async #rows(text: string, values: unknown[]): Promise<T[]> {
    try {
      return (await this.database.query(text, [this.name, ...values])).rows.map((row) => row.body as T);
    } catch (error) {
      if ((error as { code?: string }).code === "23505") throw new ConflictError(this.name);
      throw error;
    }
  }
}
