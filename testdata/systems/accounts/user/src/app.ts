import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import multer from "multer";
import { z } from "zod";
import { openClient } from "./generated/client.js";
import { HttpError, body } from "./kit/errors.js";
import { square } from "./kit/images.js";
import { rateLimit } from "./kit/rate-limit.js";
import { assemble, type Running } from "./kit/running.js";
import { common, read } from "./kit/settings.js";
import { identityOf } from "./kit/tokens.js";

const SIDE = 256;

const own = common.extend({
  UPLOAD_PATH: z.string().default("uploads"),
  UPLOAD_MAX_SIZE: z.coerce.number().int().positive().default(5 * 1024 * 1024),
});

const change = z.object({ name: z.string().min(1).max(80), bio: z.string().max(1000).optional() });

/** The whole service, from its environment. */
export async function createUser(environment: NodeJS.ProcessEnv): Promise<Running> {
  const settings = read(own, { PORT: "3002", ...environment });
  await mkdir(settings.UPLOAD_PATH, { recursive: true });
  const upload = multer({ storage: multer.memoryStorage(), limits: { fileSize: settings.UPLOAD_MAX_SIZE, files: 1 } });

  return assemble({
    name: "user",
    issuer: "accounts",
    settings,
    routes: (app, { database, counters, tokens }) => {
      const { profile: profiles } = openClient(database);
      app.use(rateLimit(counters, "all", 300, 60_000));

      app.get("/users/me", tokens.required(), async (_request, response) => {
        const profile = await profiles.get(identityOf(response).id);
        if (!profile) throw new HttpError(404, "there is no profile yet: PUT one");
        response.json(profile);
      });

      app.put("/users/me", tokens.required(), async (request, response) => {
        const { id } = identityOf(response);
        const data = body(change, request.body);
        const updated = await profiles.update(id, { ...data, updatedAt: new Date().toISOString() });
        response.status(updated ? 200 : 201).json(updated ?? (await profiles.create({ id, ...data })));
      });

      app.put("/users/me/avatar", tokens.required(), upload.single("avatar"), async (request, response) => {
        const { id } = identityOf(response);
        if (!request.file) throw new HttpError(400, "the form has no file `avatar`");
        const picture = await square(request.file.buffer, SIDE);
        // Named by its content: whoever has the address may keep it for ever.
        const avatar = `${createHash("sha256").update(picture).digest("hex").slice(0, 32)}.webp`;
        const temporary = join(settings.UPLOAD_PATH, `.${avatar}.${process.pid}`);
        await writeFile(temporary, picture);
        await rename(temporary, join(settings.UPLOAD_PATH, avatar));
        const updated = await profiles.update(id, { avatar, updatedAt: new Date().toISOString() });
        if (!updated) throw new HttpError(404, "there is no profile yet: PUT one");
        response.json(updated);
      });

      app.get("/avatars/:name", async (request, response) => {
        const { name } = request.params;
        if (!/^[0-9a-f]{32}\.webp$/.test(name)) throw new HttpError(404, "no such avatar");
        const picture = await readFile(join(settings.UPLOAD_PATH, name)).catch(() => undefined);
        if (!picture) throw new HttpError(404, "no such avatar");
        response.type("image/webp").set("Cache-Control", "public, max-age=31536000, immutable").send(picture);
      });
    },
  });
}
