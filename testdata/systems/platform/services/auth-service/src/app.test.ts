import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createAuth } from "./app.js";
import { listen } from "./kit/service.js";

let url = "";
let stop: () => void;
before(async () => {
  const { app } = await createAuth({ ADMIN_EMAIL: "root@example.org" });
  const { server, url: at } = await listen(app, 0);
  [url, stop] = [at, () => server.close()];
});
after(() => stop());

const post = (path: string, body: object, token = "") =>
  fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
    body: JSON.stringify(body),
  });
const tokenOf = async (answer: Response) => ((await answer.json()) as { token: string }).token;

async function logIn(email: string): Promise<string> {
  await post("/register", { email, password: "correct horse" });
  return tokenOf(await post("/login", { email, password: "correct horse" }));
}

test("a token tells its role", async () => {
  const told = async (token: string) => (await (await post("/introspect", { token })).json()) as Record<string, unknown>;
  assert.equal((await told(await logIn("ada@example.org")))["role"], "member");
  assert.equal((await told(await logIn("root@example.org")))["role"], "admin");
  assert.deepEqual(await told("nonsense"), { active: false });
});

test("a renewal is good once", async () => {
  const access = await logIn("bob@example.org");
  const renewal = await tokenOf(await post("/renewals", {}, access));
  const renewed = (await (await post("/renew", { token: renewal })).json()) as { token: string; renewal: string };
  assert.equal((await fetch(`${url}/me`, { headers: { authorization: `Bearer ${renewed.token}` } })).status, 200);
  assert.equal((await post("/renew", { token: renewal })).status, 401);
  assert.equal((await post("/renew", { token: renewed.renewal })).status, 401, "the thief's successor is void, too");
});

test("a renewal is no access token", async () => {
  const renewal = await tokenOf(await post("/renewals", {}, await logIn("eve@example.org")));
  assert.equal((await fetch(`${url}/me`, { headers: { authorization: `Bearer ${renewal}` } })).status, 401);
});
