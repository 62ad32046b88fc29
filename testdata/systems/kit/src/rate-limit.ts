import { createClient } from "@redis/client";
import type { RequestHandler } from "express";
import { HttpError } from "./errors.js";
import { log } from "./log.js";

/** Counts per key within a window of time. */
export interface Counters {
  readonly kind: "memory" | "redis";
  /** Counts one more, and says when the window ends, in milliseconds from now. */
  increment(key: string, windowMs: number): Promise<{ count: number; endsIn: number }>;
  close(): Promise<void>;
}

/** Redis at `url`, so that several processes count together; without one, memory. */
export async function openCounters(url: string | undefined): Promise<Counters> {
  if (!url) return new MemoryCounters();
  const client = createClient({ url });
  client.on("error", (error: Error) => log("error", "redis connection lost", { error: error.message }));
  await client.connect();
  return {
    kind: "redis",
    async increment(key, windowMs) {
      const [count, , endsIn] = await client.multi().incr(key).pExpire(key, windowMs, "NX").pTTL(key).exec();
      return { count: Number(count), endsIn: Math.max(0, Number(endsIn)) };
    },
    async close() {
      await client.close();
    },
  };
}

class MemoryCounters implements Counters {
  readonly kind = "memory";
  readonly #windows = new Map<string, { count: number; ends: number }>();

  async increment(key: string, windowMs: number): Promise<{ count: number; endsIn: number }> {
    const now = Date.now();
    // Bounded: addresses that never come back are dropped.
    if (this.#windows.size > 10_000) {
      for (const [old, { ends }] of this.#windows) if (ends <= now) this.#windows.delete(old);
    }
    let window = this.#windows.get(key);
    if (!window || window.ends <= now) window = { count: 0, ends: now + windowMs };
    window.count += 1;
    this.#windows.set(key, window);
    return { count: window.count, endsIn: window.ends - now };
  }
  async close(): Promise<void> {}
}

/** At most `limit` requests from one address in each window; the rest get 429 and when to return. */
export function rateLimit(counters: Counters, name: string, limit: number, windowMs: number): RequestHandler {
  return async (request, response, next) => {
    const { count, endsIn } = await counters.increment(`rate:${name}:${request.ip}`, windowMs);
    const seconds = String(Math.ceil(endsIn / 1000));
    response.set("RateLimit-Limit", String(limit));
    response.set("RateLimit-Remaining", String(Math.max(0, limit - count)));
    response.set("RateLimit-Reset", seconds);
    if (count > limit) {
      response.set("Retry-After", seconds);
      throw new HttpError(429, `more than ${limit} requests; try again in ${seconds} s`);
    }
    next();
  };
}
