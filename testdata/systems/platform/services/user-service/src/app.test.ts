import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createUser } from "./app.js";
import { listen } from "./kit/service.js";
import { Tokens } from "./kit/tokens.js";
import { grants } from "./permissions.js";

const secret = "z".repeat(32);
const tokens = new Tokens(new TextEncoder().encode(secret), "platform");
let url = "";
let stop: () => void;
before(async () => {
  const { app } = await createUser({ JWT_SECRET: secret });
  const { server, url: at } = await listen(app, 0);
  [url, stop] = [at, () => server.close()];
});
after(() => stop());

async function ask(who: string, role: string, method: string, path: string, body?: object): Promise<Response> {
  const token = await tokens.sign({ id: who, role }, "access", "1h");
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  return fetch(url + path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
}

test("members write their own profile and no other", async () => {
  assert.equal((await ask("ada", "member", "PUT", "/profiles/ada", { name: "Ada" })).status, 201);
  assert.equal((await ask("bob", "member", "PUT", "/profiles/ada", { name: "Bob" })).status, 403);
  assert.equal((await ask("eve", "editor", "PUT", "/profiles/ada", { name: "Ada L." })).status, 200);
  assert.equal((await ask("bob", "member", "GET", "/profiles/ada")).status, 200);
});

test("only admins assign roles", async () => {
  await ask("ada", "member", "PUT", "/profiles/ada", { name: "Ada" });
  assert.equal((await ask("ada", "member", "PUT", "/profiles/ada/role", { role: "admin" })).status, 403);
  const answer = await ask("root", "admin", "PUT", "/profiles/ada/role", { role: "editor" });
  assert.equal(((await answer.json()) as { role: string }).role, "editor");
  assert.equal((await ask("root", "admin", "PUT", "/profiles/ada/role", { role: "king" })).status, 400);
});

test("who is nobody sees nothing", async () => {
  assert.equal((await fetch(`${url}/profiles/ada`)).status, 401);
  assert.equal((await ask("x", "stranger", "GET", "/profiles/ada")).status, 403);
  assert.equal(grants("__proto__", "profiles:read"), false);
});
