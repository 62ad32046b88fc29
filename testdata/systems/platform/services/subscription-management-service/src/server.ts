import { createSubscriptions } from "./app.js";
import { run } from "./kit/service.js";

const { app, port, close } = await createSubscriptions(process.env);
await run("subscription-management-service", app, port, close);
