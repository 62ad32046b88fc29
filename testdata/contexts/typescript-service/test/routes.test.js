import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { Quotes } from "../dist/quotes.js";
import { routes } from "../dist/routes.js";

const server = createServer(routes(new Quotes()));
let base;

before(async () => {
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  base = `http://127.0.0.1:${server.address().port}`;
});
after(() => server.close());

test("health", async () => {
  const answer = await fetch(`${base}/health`);
  assert.equal(answer.status, 200);
  assert.equal((await answer.json()).status, "ok");
});

test("a quote is kept and found", async () => {
  const body = JSON.stringify({ text: "Festina lente.", author: "Augustus" });
  const added = await fetch(`${base}/quotes`, { method: "POST", body });
  assert.equal(added.status, 201);
  const found = await fetch(`${base}/quotes?author=Augustus`);
  assert.deepEqual(await found.json(), [await (await fetch(`${base}/quotes/1`)).json()]);
});

test("what is no quote is refused", async () => {
  const answer = await fetch(`${base}/quotes`, { method: "POST", body: "{" });
  assert.equal(answer.status, 400);
});
