import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { accountRoutes, type Account } from "../src/accounts.js";
import { openDatabase } from "../src/database.js";
import { imageType } from "../src/images.js";
import { scryptHasher } from "../src/passwords.js";
import { openCounters, rateLimit } from "../src/rate-limit.js";
import { createApp, listen } from "../src/service.js";
import { common, read } from "../src/settings.js";
import { Tokens } from "../src/tokens.js";

const json = { "content-type": "application/json" };
const post = (url: string, body: object) => fetch(url, { method: "POST", headers: json, body: JSON.stringify(body) });

test("settings tell everything that is wrong", () => {
  assert.throws(() => read(common, { PORT: "web", JWT_SECRET: "short" }), /PORT.*JWT_SECRET/);
  assert.equal(read(common, { PORT: "3001", DATABASE_URL: "" }).DATABASE_URL, undefined);
  assert.equal(read(z.object({ A: z.string() }), { A: "b" }).A, "b");
});

test("health says what the data is kept in, and 503 when that is gone", async () => {
  let broken = false;
  const app = createApp({
    name: "probe",
    details: async () => {
      if (broken) throw new Error("gone");
      return { storage: "memory" };
    },
    routes: () => undefined,
  });
  const { server, url } = await listen(app, 0);
  const healthy = await fetch(`${url}/health`);
  const answer = (await healthy.json()) as Record<string, unknown>;
  assert.equal(healthy.status, 200);
  assert.deepEqual(Object.keys(answer), ["status", "service", "timestamp", "details"]);
  assert.equal(new Date(String(answer["timestamp"])).toISOString(), answer["timestamp"]);
  assert.equal(healthy.headers.get("x-content-type-options"), "nosniff");
  broken = true;
  assert.equal((await fetch(`${url}/health`)).status, 503);
  server.close();
});

test("accounts: register, log in, who am I", async () => {
  const tokens = new Tokens(new Uint8Array(32), "probe");
  const accounts = openDatabase(undefined).collection<Account>("accounts", ["email"]);
  const counters = await openCounters(undefined);
  const routes = accountRoutes({
    accounts,
    hasher: scryptHasher,
    tokens,
    lifetime: "1h",
    limit: rateLimit(counters, "login", 5, 60_000),
  });
  const app = createApp({ name: "probe", details: async () => ({}), routes: (app) => void app.use(routes) });
  const { server, url } = await listen(app, 0);
  const ada = { email: "Ada@example.org", password: "a long password" };
  assert.equal((await post(`${url}/register`, ada)).status, 201);
  assert.equal((await post(`${url}/register`, ada)).status, 409);
  assert.equal((await post(`${url}/login`, { ...ada, password: "another password" })).status, 401);
  const { token } = (await (await post(`${url}/login`, ada)).json()) as { token: string };
  const me = await fetch(`${url}/me`, { headers: { authorization: `Bearer ${token}` } });
  const known = (await me.json()) as Record<string, unknown>;
  assert.equal(known["email"], "ada@example.org");
  assert.equal(known["password"], undefined);
  assert.equal((await fetch(`${url}/me`)).status, 401);
  const forged = await new Tokens(new Uint8Array(32).fill(1), "probe").sign({ id: "x", role: "admin" }, "access", "1h");
  assert.equal((await fetch(`${url}/me`, { headers: { authorization: `Bearer ${forged}` } })).status, 401);
  assert.equal((await post(`${url}/login`, ada)).status, 200);
  const limited = await post(`${url}/login`, ada);
  assert.equal(limited.status, 429);
  assert.ok(Number(limited.headers.get("retry-after")) > 0);
  server.close();
});

test("images are known by their bytes", () => {
  assert.equal(imageType(Buffer.from("\x89PNG\r\n\x1a\n....", "latin1")), "png");
  assert.throws(() => imageType(Buffer.from("<svg/>")), /only JPEG/);
  assert.throws(() => imageType(Buffer.from("push graphic-context")), /only JPEG/);
});

// With DATABASE_URL this asks a PostgreSQL, with REDIS_URL a Redis; else memory answers for both.
test("collections keep unique fields unique", async () => {
  const database = openDatabase(process.env["DATABASE_URL"]);
  const things = database.collection<{ id: string; name: string; size: number }>(`things${Date.now()}`, ["name"]);
  await things.insert({ id: "1", name: "one", size: 1 });
  await assert.rejects(things.insert({ id: "1", name: "uno", size: 1 }), /exists/);
  await assert.rejects(things.insert({ id: "2", name: "one", size: 1 }), /exists/);
  assert.deepEqual(await things.update("1", { size: 2 }), { id: "1", name: "one", size: 2 });
  assert.deepEqual(await things.find({ size: 2 }), [{ id: "1", name: "one", size: 2 }]);
  assert.equal(await things.remove("1"), true);
  assert.equal(await things.get("1"), undefined);
  await database.close();
});

test("counters count within their window", async () => {
  const counters = await openCounters(process.env["REDIS_URL"]);
  const key = `test:${Date.now()}`;
  assert.equal((await counters.increment(key, 1000)).count, 1);
  const { count, endsIn } = await counters.increment(key, 1000);
  assert.equal(count, 2);
  assert.ok(endsIn > 0 && endsIn <= 1000);
  await counters.close();
});
