import type { Request } from "express";
import { z } from "zod";
import { HttpError, body } from "./kit/errors.js";
import { assemble, type Running } from "./kit/running.js";
import { common, read } from "./kit/settings.js";
import { ROLES, permit, type Role } from "./permissions.js";

interface Profile {
  id: string;
  name: string;
  bio: string;
  links: string[];
  role: Role;
  updatedAt: string;
}

const change = z.object({
  name: z.string().min(1).max(80),
  bio: z.string().max(2000).default(""),
  links: z.array(z.string().url()).max(10).default([]),
});
const assignment = z.object({ role: z.enum(ROLES) });

const idOf = (request: Request) => String(request.params["id"]);

/** The whole service, from its environment. */
export async function createUser(environment: NodeJS.ProcessEnv): Promise<Running> {
  const settings = read(common, { PORT: "3002", ...environment });
  return assemble({
    name: "user-service",
    issuer: "platform",
    settings,
    routes: (app, { database, tokens }) => {
      const profiles = database.collection<Profile>("profiles");
      const now = () => new Date().toISOString();
      const one = async (id: string) => {
        const profile = await profiles.get(id);
        if (!profile) throw new HttpError(404, "no such profile");
        return profile;
      };
      app.use("/profiles", tokens.required());

      app.get("/profiles", permit("profiles:list"), async (_request, response) => {
        response.json(await profiles.find({}));
      });
      app.get("/profiles/:id", permit("profiles:read"), async (request, response) => {
        response.json(await one(idOf(request)));
      });
      app.put("/profiles/:id", permit("profiles:write-any", true), async (request, response) => {
        const id = idOf(request);
        const data = { ...body(change, request.body), updatedAt: now() };
        const updated = await profiles.update(id, data);
        response.status(updated ? 200 : 201).json(updated ?? (await profiles.insert({ id, role: "member", ...data })));
      });
      app.put("/profiles/:id/role", permit("roles:assign"), async (request, response) => {
        const { id } = await one(idOf(request));
        response.json(await profiles.update(id, { ...body(assignment, request.body), updatedAt: now() }));
      });
      app.delete("/profiles/:id", permit("profiles:write-any", true), async (request, response) => {
        await profiles.remove((await one(idOf(request))).id);
        response.status(204).end();
      });
    },
  });
}
