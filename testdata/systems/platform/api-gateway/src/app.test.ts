import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { createGateway } from "./app.js";
import { Balancer } from "./balancer.js";
import { listen } from "./kit/service.js";

const servers: Server[] = [];
let url = "";

/** A service that tells its name and what it was asked. */
function upstream(name: string): Promise<string> {
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ name, method: request.method, path: request.url, text, from: request.headers["x-forwarded-for"] }));
  });
  servers.push(server);
  return new Promise((resolve) => {
    server.listen(0, () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
  });
}

before(async () => {
  const dead = "http://127.0.0.1:1";
  const { app } = await createGateway({
    AUTH_URLS: [await upstream("one"), await upstream("two")].join(","),
    USER_URLS: [dead, await upstream("alive")].join(","),
    CONTENT_URLS: dead,
    CLIENT_URL: "https://app.example.org",
    RATE_LIMIT: "12",
  });
  const listening = await listen(app, 0);
  url = listening.url;
  servers.push(listening.server);
});
after(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

const get = async (path: string) => (await (await fetch(url + path)).json()) as Record<string, string>;

test("requests are routed, and shared out in turn", async () => {
  const names = [];
  for (let count = 0; count < 4; count += 1) names.push((await get("/api/auth/me?x=1"))["name"]);
  assert.deepEqual(names, ["one", "two", "one", "two"]);
  assert.equal((await get("/api/auth/me?x=1"))["path"], "/me?x=1");
});

test("bodies are passed on", async () => {
  const answer = await fetch(`${url}/api/auth/login`, { method: "POST", body: '{"a":1}' });
  const told = (await answer.json()) as Record<string, string>;
  assert.equal(told["text"], '{"a":1}');
  assert.match(told["from"]!, /127\.0\.0\.1/);
});

test("an address that does not answer is passed over", async () => {
  assert.equal((await get("/api/users/1"))["name"], "alive");
  assert.equal((await get("/api/users/1"))["name"], "alive");
  assert.equal((await fetch(`${url}/api/content/1`)).status, 502);
});

test("only our client may ask from a browser", async () => {
  const answer = await fetch(`${url}/api`, { method: "OPTIONS", headers: { origin: "https://app.example.org", "access-control-request-method": "GET" } });
  assert.equal(answer.headers.get("access-control-allow-origin"), "https://app.example.org");
  const other = await fetch(`${url}/health`, { headers: { origin: "https://evil.example" } });
  assert.notEqual(other.headers.get("access-control-allow-origin"), "https://evil.example");
});

test("too many requests are refused", async () => {
  const answers = await Promise.all(Array.from({ length: 12 }, () => fetch(`${url}/api/auth/me`)));
  assert.ok(answers.some((answer) => answer.status === 429));
  assert.equal((await fetch(`${url}/health`)).status, 200);
});

test("who rests is asked again later", () => {
  let now = 0;
  const balancer = new Balancer(["a", "b"], () => now);
  balancer.failed("a");
  assert.deepEqual(balancer.order(), ["b", "a"]);
  assert.deepEqual(balancer.order(), ["b", "a"]);
  now = 6000;
  assert.deepEqual(balancer.order(), ["a", "b"]);
});
