import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createContent } from "./app.js";
import { listen } from "./kit/service.js";
import { Tokens } from "./kit/tokens.js";

const secret = "c".repeat(32);
const hasImageMagick = /ImageMagick/.test(String(spawnSync("convert", ["-version"]).stdout));
let url = "";
let folder = "";
let headers: Record<string, string> = {};
let stop: () => void;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "content-"));
  const { app } = await createContent({ JWT_SECRET: secret, UPLOAD_PATH: join(folder, "up"), UPLOAD_MAX_SIZE: "20000" });
  const { server, url: at } = await listen(app, 0);
  [url, stop] = [at, () => server.close()];
  const tokens = new Tokens(new TextEncoder().encode(secret), "platform");
  headers = { authorization: `Bearer ${await tokens.sign({ id: "ada", role: "member" }, "access", "1h")}` };
});
after(async () => {
  stop();
  await rm(folder, { recursive: true });
});

const upload = (path: string, bytes: string | Uint8Array<ArrayBuffer>) => {
  const form = new FormData();
  form.append("file", new Blob([bytes], { type: "image/png" }), "picture.png");
  return fetch(url + path, { method: "POST", headers, body: form });
};

test("what is no image is refused, whatever it calls itself", async () => {
  assert.equal((await upload("/images", "push graphic-context\nfill 'url(https://example.org/)'")).status, 415);
  assert.equal((await upload("/images", "x".repeat(20_001))).status, 413);
  assert.equal((await fetch(`${url}/images`, { method: "POST" })).status, 401);
  assert.deepEqual(await readdir(join(folder, "up")), []);
});

test("an image is served in the width that is asked for", { skip: !hasImageMagick && "ImageMagick is not installed" }, async () => {
  const png = spawnSync("convert", ["-size", "300x200", "xc:teal", "png:-"]).stdout;
  const picture = (await (await upload("/images", new Uint8Array(png))).json()) as { id: string };
  const small = await fetch(`${url}/images/${picture.id}?width=100`);
  assert.equal(small.headers.get("content-type"), "image/webp");
  const told = spawnSync("convert", ["webp:-", "info:-"], { input: Buffer.from(await small.arrayBuffer()) });
  assert.match(String(told.stdout), / 100x67 /);
  assert.equal((await fetch(`${url}/images/${picture.id}?width=9999`)).status, 400);
  assert.equal((await upload("/images", new Uint8Array(Buffer.from("\x89PNG\r\n\x1a\n and no more", "latin1")))).status, 422);
});

test("films are probed where FFmpeg is, and only there", async () => {
  const path = process.env["PATH"];
  process.env["PATH"] = folder;
  assert.equal((await upload("/videos/probe", "film")).status, 501);
  await writeFile(join(folder, "ffprobe"), `#!/bin/sh\n/bin/cat >/dev/null\necho '{"format":{"duration":"1.5"}}'\n`);
  await chmod(join(folder, "ffprobe"), 0o755);
  const probed = (await (await upload("/videos/probe", "film")).json()) as { format: { duration: string } };
  assert.equal(probed.format.duration, "1.5");
  process.env["PATH"] = path;
});
