import { createAuth } from "./app.js";
import { run } from "./kit/service.js";

const { app, port, close } = await createAuth(process.env);
await run("auth", app, port, close);
