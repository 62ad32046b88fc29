import { openClient } from "./generated/client.js";
import { bcryptHasher } from "./hasher.js";
import { accountRoutes } from "./kit/accounts.js";
import { rateLimit } from "./kit/rate-limit.js";
import { assemble, type Running } from "./kit/running.js";
import { common, read } from "./kit/settings.js";

const MINUTE = 60_000;

/** The whole service, from its environment. */
export async function createAuth(environment: NodeJS.ProcessEnv): Promise<Running> {
  const settings = read(common, { PORT: "3001", ...environment });
  return assemble({
    name: "auth",
    issuer: "accounts",
    settings,
    routes: (app, { database, counters, tokens }) => {
      const routes = accountRoutes({
        accounts: openClient(database).account,
        hasher: bcryptHasher,
        tokens,
        lifetime: settings.JWT_EXPIRES_IN,
        limit: rateLimit(counters, "credentials", 10, MINUTE),
      });
      app.use(rateLimit(counters, "all", 300, MINUTE));
      app.use("/auth", routes);
    },
  });
}
