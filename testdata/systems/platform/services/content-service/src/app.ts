import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import multer from "multer";
import { z } from "zod";
import { HttpError, body } from "./kit/errors.js";
import { filter, imageType, resize } from "./kit/images.js";
import { assemble, type Running } from "./kit/running.js";
import { common, read } from "./kit/settings.js";
import { identityOf } from "./kit/tokens.js";

const own = common.extend({
  UPLOAD_PATH: z.string().default("uploads"),
  UPLOAD_MAX_SIZE: z.coerce.number().int().positive().default(10 * 1024 * 1024),
});

interface Picture {
  id: string;
  type: string;
  bytes: number;
  owner: string;
  uploadedAt: string;
}

const size = z.object({ width: z.coerce.number().int().min(16).max(2048).optional() });

/** The whole service, from its environment. */
export async function createContent(environment: NodeJS.ProcessEnv): Promise<Running> {
  const settings = read(own, { PORT: "3005", ...environment });
  await mkdir(settings.UPLOAD_PATH, { recursive: true });
  const upload = multer({ storage: multer.memoryStorage(), limits: { fileSize: settings.UPLOAD_MAX_SIZE, files: 1 } });
  const uploaded = (file: Express.Multer.File | undefined) => {
    if (!file) throw new HttpError(400, "the form has no file `file`");
    return file.buffer;
  };

  return assemble({
    name: "content-service",
    issuer: "platform",
    settings,
    routes: (app, { database, tokens }) => {
      const pictures = database.collection<Picture>("pictures");

      app.post("/images", tokens.required(), upload.single("file"), async (request, response) => {
        const bytes = uploaded(request.file);
        const type = imageType(bytes);
        // A file may begin like an image and be none: only what can be drawn is kept.
        await resize(bytes, 16);
        const id = createHash("sha256").update(bytes).digest("hex").slice(0, 32);
        const known = await pictures.get(id);
        if (known) return void response.json(known);
        const temporary = join(settings.UPLOAD_PATH, `.${id}.${process.pid}`);
        await writeFile(temporary, bytes);
        await rename(temporary, join(settings.UPLOAD_PATH, id));
        const owner = identityOf(response).id;
        const picture = { id, type, bytes: bytes.length, owner, uploadedAt: new Date().toISOString() };
        response.status(201).json(await pictures.insert(picture));
      });

      app.get("/images/:id", async (request, response) => {
        const { width } = body(size, request.query);
        const picture = await pictures.get(request.params["id"]!);
        if (!picture) throw new HttpError(404, "no such image");
        const bytes = await readFile(join(settings.UPLOAD_PATH, picture.id));
        response.set("Cache-Control", "public, max-age=31536000, immutable");
        if (width) response.type("image/webp").send(await resize(bytes, width));
        else response.type(`image/${picture.type}`).send(bytes);
      });

      // What FFmpeg says about a film; 501 where the image was built without it.
      app.post("/videos/probe", tokens.required(), upload.single("file"), async (request, response) => {
        const options = ["-v", "error", "-of", "json", "-show_format", "-show_streams", "-protocol_whitelist", "pipe"];
        const output = await filter("ffprobe", [...options, "pipe:0"], uploaded(request.file));
        response.type("application/json").send(output);
      });
    },
  });
}
