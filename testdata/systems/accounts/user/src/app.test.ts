import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createUser } from "./app.js";
import { listen } from "./kit/service.js";
import { Tokens } from "./kit/tokens.js";

const secret = "y".repeat(32);
const hasImageMagick = /ImageMagick/.test(String(spawnSync("convert", ["-version"]).stdout));
let url = "";
let uploads = "";
let headers: Record<string, string> = {};
let stop: () => void;

before(async () => {
  uploads = await mkdtemp(join(tmpdir(), "uploads-"));
  const { app } = await createUser({ JWT_SECRET: secret, UPLOAD_PATH: uploads, UPLOAD_MAX_SIZE: "5000" });
  const { server, url: at } = await listen(app, 0);
  [url, stop] = [at, () => server.close()];
  const tokens = new Tokens(new TextEncoder().encode(secret), "accounts");
  headers = { authorization: `Bearer ${await tokens.sign({ id: "ada", role: "member" }, "access", "1h")}` };
});
after(async () => {
  stop();
  await rm(uploads, { recursive: true });
});

const put = (profile: object) =>
  fetch(`${url}/users/me`, {
    method: "PUT",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify(profile),
  });
const putAvatar = (bytes: string | Uint8Array<ArrayBuffer>) => {
  const form = new FormData();
  form.append("avatar", new Blob([bytes]), "../../etc/passwd");
  return fetch(`${url}/users/me/avatar`, { method: "PUT", headers, body: form });
};

test("a profile is made and changed", async () => {
  assert.equal((await fetch(`${url}/users/me`, { headers })).status, 404);
  assert.equal((await put({ name: "Ada" })).status, 201);
  assert.equal((await put({ name: "Ada L.", bio: "Notes" })).status, 200);
  const profile = (await (await fetch(`${url}/users/me`, { headers })).json()) as Record<string, unknown>;
  assert.equal(profile["name"], "Ada L.");
  assert.equal((await fetch(`${url}/users/me`)).status, 401);
});

test("what is no image, and what is too large, is refused", async () => {
  assert.equal((await putAvatar("<svg/>")).status, 415);
  assert.equal((await putAvatar("x".repeat(5001))).status, 413);
  assert.deepEqual(await readdir(uploads), []);
});

test("an avatar becomes a square", { skip: !hasImageMagick && "ImageMagick is not installed" }, async () => {
  const picture = spawnSync("convert", ["-size", "60x40", "xc:teal", "png:-"]).stdout;
  const answer = await putAvatar(new Uint8Array(picture));
  assert.equal(answer.status, 200);
  const { avatar } = (await answer.json()) as { avatar: string };
  const served = await fetch(`${url}/avatars/${avatar}`);
  assert.equal(served.headers.get("content-type"), "image/webp");
  assert.equal(Buffer.from(await served.arrayBuffer()).toString("latin1", 8, 12), "WEBP");
  assert.equal((await fetch(`${url}/avatars/..%2Fserver.js`)).status, 404);
});
