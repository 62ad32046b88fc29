import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import express, { type Express } from "express";
import helmet from "helmet";
import { answerErrors, notFound } from "./errors.js";
import { log } from "./log.js";
import { tracing } from "./tracing.js";

export interface ServiceOptions {
  name: string;
  /** Where spans go, if anywhere. */
  traces?: string | undefined;
  /** What `/health` tells beside its fixed keys; it throws if the service cannot work. */
  details: () => Promise<object>;
  /** Before the bodies of requests are read. */
  first?: (app: Express) => void;
  routes: (app: Express) => void;
}

/** An application with security headers, `/health`, JSON bodies of at most 100 kB, and JSON errors. */
export function createApp({ name, traces, details, first, routes }: ServiceOptions): Express {
  const app = express();
  app.set("trust proxy", "loopback, linklocal, uniquelocal");
  app.use(helmet());
  app.get("/health", async (_request, response) => {
    const answer = { service: name, timestamp: new Date().toISOString() };
    try {
      response.json({ status: "ok", ...answer, details: await details() });
    } catch (error) {
      log("error", "not healthy", { error: String(error) });
      response.status(503).json({ status: "unavailable", ...answer });
    }
  });
  app.use(tracing(name, traces));
  first?.(app);
  app.use(express.json());
  routes(app);
  app.use(notFound);
  app.use(answerErrors);
  return app;
}

/** Starts to listen; port 0 takes a free one. */
export function listen(app: Express, port: number): Promise<{ server: Server; url: string }> {
  const server = createServer(app);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, () => {
      resolve({ server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
    });
  });
}

/** Serves until SIGTERM or SIGINT, then answers what has begun, closes what is open and ends. */
export async function run(name: string, app: Express, port: number, close: () => Promise<void>): Promise<void> {
  const { server } = await listen(app, port);
  log("info", `${name} listens on port ${port}`);
  const stop = (signal: string) => {
    log("info", `${signal}: ${name} stops`);
    server.close(() => {
      close().then(
        () => process.exit(0),
        (error) => {
          log("error", "could not close everything", { error: String(error) });
          process.exit(1);
        },
      );
    });
    // Streams may last for ever; whoever stops us waits ten seconds before he kills.
    setTimeout(() => server.closeAllConnections(), 5000).unref();
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
}
