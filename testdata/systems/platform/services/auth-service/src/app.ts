import { z } from "zod";
import { accountRoutes, type Account } from "./kit/accounts.js";
import { HttpError, body } from "./kit/errors.js";
import { scryptHasher } from "./kit/passwords.js";
import { rateLimit } from "./kit/rate-limit.js";
import { assemble, type Running } from "./kit/running.js";
import { common, read } from "./kit/settings.js";
import { identityOf, type Identity } from "./kit/tokens.js";

const own = common.extend({
  JWT_EXPIRES_IN: z.string().default("15m"),
  REFRESH_EXPIRES_IN: z.string().default("30d"),
  ADMIN_EMAIL: z.string().email().optional(),
});

/** A renewal that was given out and not used yet. */
interface Renewal {
  id: string;
  account: string;
}

const token = z.object({ token: z.string() });

/** The whole service, from its environment. */
export async function createAuth(environment: NodeJS.ProcessEnv): Promise<Running> {
  const settings = read(own, { PORT: "3001", ...environment });
  return assemble({
    name: "auth-service",
    issuer: "platform",
    settings,
    routes: (app, { database, counters, tokens }) => {
      const accounts = database.collection<Account>("accounts", ["email"]);
      const renewals = database.collection<Renewal>("renewals");
      const lifetime = settings.JWT_EXPIRES_IN;
      const limit = rateLimit(counters, "credentials", 20, 60_000);
      const roleOf = (email: string) => (email === settings.ADMIN_EMAIL ? "admin" : "member");
      app.use(accountRoutes({ accounts, hasher: scryptHasher, tokens, lifetime, limit, roleOf }));

      const renewal = async (identity: Identity) => {
        const refresh = await tokens.sign(identity, "refresh", settings.REFRESH_EXPIRES_IN);
        const { jti } = await tokens.verify(refresh, "refresh");
        await renewals.insert({ id: jti, account: identity.id });
        return refresh;
      };

      app.post("/renewals", tokens.required(), async (_request, response) => {
        response.status(201).json({ token: await renewal(identityOf(response)) });
      });

      // A renewal is good once: whoever comes second with it has stolen it, or lost it.
      app.post("/renew", limit, async (request, response) => {
        const { jti, id } = await tokens.verify(body(token, request.body).token, "refresh");
        if (!(await renewals.remove(jti))) {
          for (const other of await renewals.find({ account: id })) await renewals.remove(other.id);
          throw new HttpError(401, "this renewal was used before: all of this account are void");
        }
        const account = await accounts.get(id);
        if (!account) throw new HttpError(401, "this account is gone");
        response.json({ token: await tokens.sign(account, "access", lifetime), renewal: await renewal(account) });
      });

      app.post("/introspect", async (request, response) => {
        const { token: given } = body(token, request.body);
        const known = await tokens.verify(given, "access").catch(() => undefined);
        response.json(known ? { active: true, sub: known.id, role: known.role, exp: known.expires } : { active: false });
      });
    },
  });
}
