import { createBilling } from "./app.js";
import { run } from "./kit/service.js";

const { app, port, close } = await createBilling(process.env);
await run("billing", app, port, close);
