import type { Express } from "express";
import { openDatabase, type Database } from "./database.js";
import { openCounters, type Counters } from "./rate-limit.js";
import { createApp } from "./service.js";
import { tokenKey } from "./settings.js";
import { Tokens } from "./tokens.js";

/** A service that is ready to listen. */
export interface Running {
  app: Express;
  port: number;
  close: () => Promise<void>;
}

/** What a service works with. */
export interface Resources {
  database: Database;
  counters: Counters;
  tokens: Tokens;
}

interface Settings {
  PORT: number;
  DATABASE_URL?: string | undefined;
  REDIS_URL?: string | undefined;
  JWT_SECRET?: string | undefined;
  OTEL_EXPORTER_OTLP_ENDPOINT?: string | undefined;
}

interface Parts {
  name: string;
  /** Whose tokens are taken: the services of one system share it, and the key. */
  issuer: string;
  settings: Settings;
  first?: (app: Express, resources: Resources) => void;
  routes: (app: Express, resources: Resources) => void;
}

/** Puts a service together: its database, its counters, its tokens, its routes. */
export async function assemble({ name, issuer, settings, first, routes }: Parts): Promise<Running> {
  const database = openDatabase(settings.DATABASE_URL);
  const counters = await openCounters(settings.REDIS_URL);
  const tokens = new Tokens(tokenKey(settings.JWT_SECRET), issuer);
  const resources = { database, counters, tokens };
  const app = createApp({
    name,
    traces: settings.OTEL_EXPORTER_OTLP_ENDPOINT,
    details: async () => {
      await database.ping();
      return { storage: database.kind, counters: counters.kind };
    },
    first: (app) => first?.(app, resources),
    routes: (app) => routes(app, resources),
  });
  const close = async () => {
    await Promise.all([database.close(), counters.close()]);
  };
  return { app, port: settings.PORT, close };
}
