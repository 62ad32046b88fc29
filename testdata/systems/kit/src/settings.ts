import { randomBytes } from "node:crypto";
import { z } from "zod";
import { log } from "./log.js";

/** What every service reads from its environment. */
export const common = z.object({
  PORT: z.coerce.number().int().min(0).max(65535),
  DATABASE_URL: z.string().optional(),
  REDIS_URL: z.string().optional(),
  JWT_SECRET: z.string().min(32, "at least 32 characters").optional(),
  JWT_EXPIRES_IN: z.string().regex(/^\d+[smhd]$/, "a number and s, m, h or d").default("24h"),
  CLIENT_URL: z.string().default("http://localhost:3000"),
  OTEL_EXPORTER_OTLP_ENDPOINT: z.string().optional(),
});

/** Settings as a schema reads them; every problem is told at once. An empty variable is not set. */
export function read<S extends z.ZodTypeAny>(schema: S, environment: NodeJS.ProcessEnv): z.output<S> {
  const set = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ""));
  const result = schema.safeParse(set);
  if (!result.success) {
    const problems = result.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
    throw new Error(`the environment is wrong: ${problems.join("; ")}`);
  }
  return result.data;
}

/** The key for tokens. Without one, a key of this process, so that nothing secret has a default. */
export function tokenKey(secret: string | undefined): Uint8Array {
  if (secret) return new TextEncoder().encode(secret);
  log("warn", "JWT_SECRET is not set: tokens are good for this process only");
  return randomBytes(32);
}
