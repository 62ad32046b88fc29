import { openClient } from "./generated/client.js";
import { accountRoutes } from "./kit/accounts.js";
import { scryptHasher } from "./kit/passwords.js";
import { rateLimit } from "./kit/rate-limit.js";
import { assemble, type Running } from "./kit/running.js";
import { common, read } from "./kit/settings.js";

/** The whole service, from its environment. */
export async function createAuth(environment: NodeJS.ProcessEnv): Promise<Running> {
  const settings = read(common, { PORT: "3001", ...environment });
  return assemble({
    name: "auth",
    issuer: "assistant",
    settings,
    routes: (app, { database, counters, tokens }) => {
      const routes = accountRoutes({
        accounts: openClient(database).account,
        hasher: scryptHasher,
        tokens,
        lifetime: settings.JWT_EXPIRES_IN,
        limit: rateLimit(counters, "credentials", 10, 60_000),
      });
      app.use("/auth", routes);
    },
  });
}
