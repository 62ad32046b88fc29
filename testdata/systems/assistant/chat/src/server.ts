import { createChat } from "./app.js";
import { run } from "./kit/service.js";

const { app, port, close } = await createChat(process.env);
await run("chat", app, port, close);
