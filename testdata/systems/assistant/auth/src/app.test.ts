import assert from "node:assert/strict";
import { test } from "node:test";
import { createAuth } from "./app.js";
import { listen } from "./kit/service.js";

test("who registers may log in; a taken address is refused", async () => {
  const { app } = await createAuth({ JWT_SECRET: "a".repeat(32) });
  const { server, url } = await listen(app, 0);
  const post = (path: string) =>
    fetch(url + path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ email: "ada@example.org", password: "correct horse" }),
    });
  assert.equal((await post("/auth/register")).status, 201);
  assert.equal((await post("/auth/register")).status, 409);
  const { token } = (await (await post("/auth/login")).json()) as { token: string };
  const me = await fetch(`${url}/auth/me`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(me.status, 200);
  server.close();
});

test("a wrong environment is told, not guessed at", async () => {
  await assert.rejects(createAuth({ JWT_SECRET: "short" }), /JWT_SECRET: at least 32/);
  await assert.rejects(createAuth({ JWT_EXPIRES_IN: "soon" }), /JWT_EXPIRES_IN/);
});
