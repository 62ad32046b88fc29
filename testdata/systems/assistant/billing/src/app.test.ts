import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import Stripe from "stripe";
import { createBilling } from "./app.js";
import { listen } from "./kit/service.js";
import { Tokens } from "./kit/tokens.js";

const secret = "b".repeat(32);
const webhook = "whsec_test";
let url = "";
let headers: Record<string, string> = {};
let stop: () => void;
before(async () => {
  const { app } = await createBilling({ JWT_SECRET: secret, STRIPE_WEBHOOK_SECRET: webhook });
  const { server, url: at } = await listen(app, 0);
  [url, stop] = [at, () => server.close()];
  const tokens = new Tokens(new TextEncoder().encode(secret), "assistant");
  headers = {
    authorization: `Bearer ${await tokens.sign({ id: "ada", role: "member" }, "access", "1h")}`,
    "content-type": "application/json",
  };
});
after(() => stop());

const order = async () =>
  (await (
    await fetch(`${url}/checkouts`, { method: "POST", headers, body: JSON.stringify({ price: "price_1" }) })
  ).json()) as { id: string; url: string; status: string };
const statusOf = async (id: string) =>
  ((await (await fetch(`${url}/checkouts/${id}`, { headers })).json()) as { status: string }).status;

function report(payload: string, signedWith = webhook, signed = payload): Promise<Response> {
  const signature = Stripe.webhooks.generateTestHeaderString({ payload: signed, secret: signedWith });
  const headers = { "content-type": "application/json", "stripe-signature": signature };
  return fetch(`${url}/webhooks/stripe`, { method: "POST", headers, body: payload });
}
const completed = (event: string, id: string) =>
  JSON.stringify({ id: event, object: "event", type: "checkout.session.completed", data: { object: { id } } });

test("a checkout is paid when the provider says so", async () => {
  const { id, status } = await order();
  assert.equal(status, "open");
  assert.equal((await report(completed("evt_1", id))).status, 200);
  assert.equal(await statusOf(id), "paid");
});

test("a report counts once", async () => {
  const { id } = await order();
  await report(completed("evt_2", id));
  const again = (await (await report(completed("evt_2", id))).json()) as { new: boolean };
  assert.equal(again.new, false);
});

test("reports with a wrong signature change nothing", async () => {
  const { id } = await order();
  assert.equal((await report(completed("evt_3", id), "whsec_other")).status, 400);
  assert.equal((await report(completed("evt_3", id), webhook, completed("evt_3", "another"))).status, 400);
  const unsigned = await fetch(`${url}/webhooks/stripe`, { method: "POST", headers, body: completed("evt_3", id) });
  assert.equal(unsigned.status, 400);
  assert.equal(await statusOf(id), "open");
});

test("checkouts are one's own", async () => {
  const { id } = await order();
  assert.equal((await fetch(`${url}/checkouts/${id}`)).status, 401);
});
