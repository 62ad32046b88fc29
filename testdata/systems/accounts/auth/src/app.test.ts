import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createAuth } from "./app.js";
import { bcryptHasher } from "./hasher.js";
import { listen } from "./kit/service.js";

let url = "";
let stop: () => void;
before(async () => {
  const { app } = await createAuth({ JWT_SECRET: "x".repeat(32) });
  const { server, url: at } = await listen(app, 0);
  [url, stop] = [at, () => server.close()];
});
after(() => stop());

const post = (path: string, body: object) =>
  fetch(url + path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
const ada = { email: "ada@example.org", password: "correct horse" };

test("health", async () => {
  const answer = (await (await fetch(`${url}/health`)).json()) as Record<string, unknown>;
  assert.equal(answer["status"], "ok");
  assert.equal(answer["service"], "auth");
});

test("who registers may log in, and is known by the token", async () => {
  assert.equal((await post("/auth/register", ada)).status, 201);
  const { token } = (await (await post("/auth/login", ada)).json()) as { token: string };
  const me = await fetch(`${url}/auth/me`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(((await me.json()) as { email: string }).email, ada.email);
});

test("short passwords are refused with the reason", async () => {
  const answer = await post("/auth/register", { email: "b@example.org", password: "short" });
  assert.equal(answer.status, 400);
  assert.match(((await answer.json()) as { error: string }).error, /password/);
});

test("guessing is slowed down", async () => {
  const tries = await Promise.all(Array.from({ length: 12 }, () => post("/auth/login", { ...ada, password: "wrong password" })));
  assert.ok(tries.some((answer) => answer.status === 429));
});

test("passwords longer than bcrypt reads are told apart", async () => {
  const hash = await bcryptHasher.hash("x".repeat(100));
  assert.equal(await bcryptHasher.matches("x".repeat(100), hash), true);
  assert.equal(await bcryptHasher.matches("x".repeat(99), hash), false);
});
