import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createSubscriptions } from "./app.js";
import { listen } from "./kit/service.js";
import { Tokens } from "./kit/tokens.js";
import { PLANS, difference } from "./plans.js";

const secret = "s".repeat(32);
const tokens = new Tokens(new TextEncoder().encode(secret), "platform");
let url = "";
let stop: () => void;
before(async () => {
  const { app } = await createSubscriptions({ JWT_SECRET: secret });
  const { server, url: at } = await listen(app, 0);
  [url, stop] = [at, () => server.close()];
});
after(() => stop());

async function ask(who: string, method: string, path: string, body?: object): Promise<Response> {
  const token = await tokens.sign({ id: who, role: "member" }, "access", "1h");
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  return fetch(url + path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
}
const card = { paymentMethod: "card_4242" };

test("a plan is paid, once", async () => {
  assert.equal((await ask("ada", "PUT", "/subscription", { plan: "team" })).status, 402);
  assert.equal((await ask("ada", "PUT", "/subscription", { plan: "team", ...card })).status, 201);
  assert.equal((await ask("ada", "PUT", "/subscription", { plan: "team", ...card })).status, 200);
  const invoices = (await (await ask("ada", "GET", "/subscription/invoices")).json()) as { amount: number }[];
  assert.deepEqual(invoices.map((one) => one.amount), [1900]);
});

test("a declined card changes nothing, and another may be tried", async () => {
  const answer = await ask("bob", "PUT", "/subscription", { plan: "team", paymentMethod: "card_0002" });
  assert.equal(answer.status, 402);
  assert.match(((await answer.json()) as { error: string }).error, /declined/);
  assert.equal((await ask("bob", "GET", "/subscription")).status, 404);
  assert.equal((await ask("bob", "PUT", "/subscription", { plan: "team", ...card })).status, 201, "another card is another try");
});

test("a subscription ends, and others do not see it", async () => {
  await ask("eve", "PUT", "/subscription", { plan: "free" });
  const ended = (await (await ask("eve", "DELETE", "/subscription")).json()) as { status: string };
  assert.equal(ended.status, "cancelled");
  assert.equal((await ask("mallory", "GET", "/subscription")).status, 404);
  assert.equal((await ask("eve", "PUT", "/subscription", { plan: "gold" })).status, 404);
});

test("a change in the middle of a period costs its share", () => {
  const [free, team, company] = PLANS as [(typeof PLANS)[0], (typeof PLANS)[0], (typeof PLANS)[0]];
  const now = new Date("2026-01-01T00:00:00Z");
  const half = new Date("2026-01-16T00:00:00Z");
  assert.equal(difference(team, company, half, now), 4000);
  assert.equal(difference(company, free, half, now), 0);
});
