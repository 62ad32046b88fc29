import cors from "cors";
import { z } from "zod";
import { Balancer } from "./balancer.js";
import { rateLimit } from "./kit/rate-limit.js";
import { assemble, type Running } from "./kit/running.js";
import { common, read } from "./kit/settings.js";
import { proxy } from "./proxy.js";

const addresses = (fallback: string) =>
  z
    .string()
    .default(fallback)
    .transform((text) => text.split(",").map((one) => one.trim()))
    .pipe(z.array(z.string().url()).min(1));

const own = common.extend({
  AUTH_URLS: addresses("http://auth-service:3001"),
  USER_URLS: addresses("http://user-service:3002"),
  SUBSCRIPTION_URLS: addresses("http://subscription-management-service:3003"),
  CONTENT_URLS: addresses("http://content-service:3005"),
  RATE_LIMIT: z.coerce.number().int().positive().default(600),
  UPSTREAM_TIMEOUT_MS: z.coerce.number().int().positive().default(15_000),
});

/** The whole gateway, from its environment. It keeps nothing and makes no tokens. */
export async function createGateway(environment: NodeJS.ProcessEnv): Promise<Running> {
  const settings = read(own, { PORT: "5001", ...environment });
  const services = {
    auth: new Balancer(settings.AUTH_URLS),
    users: new Balancer(settings.USER_URLS),
    subscriptions: new Balancer(settings.SUBSCRIPTION_URLS),
    content: new Balancer(settings.CONTENT_URLS),
  };
  return assemble({
    name: "api-gateway",
    issuer: "platform",
    settings,
    // Before bodies are read: they are passed on as they come.
    first: (app, { counters }) => {
      app.use(cors({ origin: settings.CLIENT_URL.split(","), credentials: true, maxAge: 600 }));
      app.use("/api", rateLimit(counters, "gateway", settings.RATE_LIMIT, 60_000));
      for (const [name, balancer] of Object.entries(services)) {
        app.use(`/api/${name}`, proxy(name, balancer, settings.UPSTREAM_TIMEOUT_MS));
      }
    },
    routes: (app) => {
      app.get("/api", (_request, response) => {
        response.json(Object.fromEntries(Object.entries(services).map(([name, { targets }]) => [name, targets.length])));
      });
    },
  });
}
