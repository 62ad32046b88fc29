import { createContent } from "./app.js";
import { run } from "./kit/service.js";

const { app, port, close } = await createContent(process.env);
await run("content-service", app, port, close);
