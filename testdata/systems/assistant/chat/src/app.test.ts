import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { createChat } from "./app.js";
import { listen } from "./kit/service.js";
import { Tokens } from "./kit/tokens.js";
import { EchoProvider, OpenAiProvider, type ChatProvider } from "./provider.js";

const secret = "h".repeat(32);
const tokens = new Tokens(new TextEncoder().encode(secret), "assistant");

interface Event {
  event: string;
  data: Record<string, string>;
}

async function start(provider: ChatProvider) {
  const { app } = await createChat({ JWT_SECRET: secret }, provider);
  const { server, url } = await listen(app, 0);
  const headers = async (who: string) => ({
    authorization: `Bearer ${await tokens.sign({ id: who, role: "member" }, "access", "1h")}`,
    "content-type": "application/json",
  });
  const say = async (who: string, message: object) =>
    fetch(`${url}/chat`, { method: "POST", headers: await headers(who), body: JSON.stringify(message) });
  const read = async (who: string, id: string) => fetch(`${url}/conversations/${id}`, { headers: await headers(who) });
  return { server, say, read };
}

function events(text: string): Event[] {
  const blocks = text.trim().split("\n\n").map((block) => /^event: (.*)\ndata: (.*)$/.exec(block));
  return blocks.map((block) => ({ event: block![1]!, data: JSON.parse(block![2]!) }));
}

test("an answer comes word by word, and is kept", async () => {
  const { server, say, read } = await start(new EchoProvider(1));
  const answer = await say("ada", { text: "good morning" });
  assert.match(answer.headers.get("content-type")!, /event-stream/);
  const all = events(await answer.text());
  assert.deepEqual(all.map((one) => one.event), ["conversation", "token", "token", "token", "token", "done"]);
  const id = all[0]!.data["id"]!;
  await (await say("ada", { text: "again", conversation: id })).text();
  const kept = (await (await read("ada", id)).json()) as { messages: { text: string }[] };
  assert.deepEqual(kept.messages.map((one) => one.text), ["good morning", "You said: good morning", "again", "You said: again"]);
  assert.equal((await read("eve", id)).status, 404);
  assert.equal((await say("eve", { text: "me, too", conversation: id })).status, 404);
  server.close();
});

test("a model that fails is told as an event", async () => {
  const broken: ChatProvider = {
    name: "broken",
    async *answer() {
      yield "well, ";
      throw new Error("out of words");
    },
  };
  const { server, say } = await start(broken);
  const all = events(await (await say("ada", { text: "hello" })).text());
  assert.equal(all.at(-1)!.event, "failed");
  assert.doesNotMatch(JSON.stringify(all), /out of words/);
  server.close();
});

test("a model stops when nobody listens any more", async () => {
  let stopped: (value: boolean) => void;
  const wasStopped = new Promise<boolean>((resolve) => (stopped = resolve));
  const endless: ChatProvider = {
    name: "endless",
    async *answer(_turns, signal) {
      signal.addEventListener("abort", () => stopped(true));
      while (!signal.aborted) {
        yield "and ";
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
  };
  const { server, say } = await start(endless);
  const answer = await say("ada", { text: "go on" });
  await answer.body!.cancel();
  assert.equal(await wasStopped, true);
  server.close();
});

test("OpenAI's interface is spoken", async () => {
  const model = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    assert.equal(request.url, "/v1/chat/completions");
    assert.equal(JSON.parse(text).messages[0].content, "hi");
    response.setHeader("content-type", "text/event-stream");
    for (const content of ["Hel", "lo"]) {
      response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`);
    }
    response.end("data: [DONE]\n\n");
  });
  await new Promise<void>((resolve) => model.listen(0, resolve));
  const address = `http://127.0.0.1:${(model.address() as AddressInfo).port}/v1`;
  const pieces = [];
  const provider = new OpenAiProvider("key", "any", address);
  for await (const piece of provider.answer([{ role: "user", text: "hi" }], new AbortController().signal)) pieces.push(piece);
  assert.deepEqual(pieces, ["Hel", "lo"]);
  model.closeAllConnections();
  model.close();
});
