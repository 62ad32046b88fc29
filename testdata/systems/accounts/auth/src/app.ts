import type { Express } from "express";
import { openClient } from "./generated/client.js";
import { accountRoutes } from "./kit/accounts.js";
import { openDatabase } from "./kit/database.js";
import { openCounters, rateLimit } from "./kit/rate-limit.js";
import { createApp } from "./kit/service.js";
import { common, read, tokenKey } from "./kit/settings.js";
import { Tokens } from "./kit/tokens.js";
import { bcryptHasher } from "./hasher.js";

const MINUTE = 60_000;

export interface Running {
  app: Express;
  port: number;
  close: () => Promise<void>;
}

/** The whole service, from its environment. */
export async function createAuth(environment: NodeJS.ProcessEnv): Promise<Running> {
  const settings = read(common, { PORT: "3001", ...environment });
  const database = openDatabase(settings.DATABASE_URL);
  const counters = await openCounters(settings.REDIS_URL);
  const client = openClient(database);
  const tokens = new Tokens(tokenKey(settings.JWT_SECRET), "accounts");
  const app = createApp({
    name: "auth",
    traces: settings.OTEL_EXPORTER_OTLP_ENDPOINT,
    details: async () => {
      await database.ping();
      return { storage: database.kind, counters: counters.kind };
    },
    routes: (app) => {
      app.use(rateLimit(counters, "all", 300, MINUTE));
      app.use(
        "/auth",
        accountRoutes({
          accounts: client.account,
          hasher: bcryptHasher,
          tokens,
          lifetime: settings.JWT_EXPIRES_IN,
          limit: rateLimit(counters, "credentials", 10, MINUTE),
        }),
      );
    },
  });
  const close = async () => {
    await Promise.all([database.close(), counters.close()]);
  };
  return { app, port: settings.PORT, close };
}
