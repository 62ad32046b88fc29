import { createUser } from "./app.js";
import { run } from "./kit/service.js";

const { app, port, close } = await createUser(process.env);
await run("user-service", app, port, close);
