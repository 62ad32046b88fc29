import type { Response } from "express";
import { z } from "zod";
import { openClient } from "./generated/client.js";
import { HttpError, body } from "./kit/errors.js";
import { log } from "./kit/log.js";
import { rateLimit } from "./kit/rate-limit.js";
import { assemble, type Running } from "./kit/running.js";
import { common, read } from "./kit/settings.js";
import { identityOf } from "./kit/tokens.js";
import { EchoProvider, OpenAiProvider, type ChatProvider, type Turn } from "./provider.js";

const own = common.extend({
  OPENAI_API_KEY: z.string().optional(),
  OPENAI_BASE_URL: z.string().url().optional(),
  OPENAI_MODEL: z.string().default("gpt-4o-mini"),
});

const question = z.object({ text: z.string().min(1).max(8000), conversation: z.string().uuid().optional() });

const LONGEST = 100;

function provider(settings: z.output<typeof own>): ChatProvider {
  const { OPENAI_API_KEY: key, OPENAI_MODEL: model, OPENAI_BASE_URL: address } = settings;
  if (key) return new OpenAiProvider(key, model, address);
  log("warn", "OPENAI_API_KEY is not set: an echo answers");
  return new EchoProvider();
}

/** One event of a stream of server-sent events. */
function send(response: Response, event: string, data: object): void {
  response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}

/** The whole service, from its environment. */
export async function createChat(environment: NodeJS.ProcessEnv, given?: ChatProvider): Promise<Running> {
  const settings = read(own, { PORT: "3002", ...environment });
  const model = given ?? provider(settings);
  return assemble({
    name: "chat",
    issuer: "assistant",
    settings,
    routes: (app, { database, counters, tokens }) => {
      const { conversation: conversations, message: messages } = openClient(database);
      const turnsOf = async (conversation: string) =>
        (await messages.find({ conversation })).sort((one, other) => one.place - other.place);
      const mine = async (id: string, account: string) => {
        const conversation = await conversations.get(id);
        if (conversation?.account !== account) throw new HttpError(404, "no such conversation");
        return conversation;
      };
      app.use(["/chat", "/conversations"], tokens.required());

      // The answer is a stream of `token` events, closed by `done` or `failed`.
      app.post("/chat", rateLimit(counters, "chat", 60, 60_000), async (request, response) => {
        const { text, conversation: id } = body(question, request.body);
        const account = identityOf(response).id;
        const conversation = id ? await mine(id, account) : await conversations.create({ account });
        const before = await turnsOf(conversation.id);
        if (before.length >= LONGEST) throw new HttpError(409, `a conversation has at most ${LONGEST} messages`);
        await messages.create({ conversation: conversation.id, place: before.length, role: "user", text });

        response.set({ "Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no" });
        response.flushHeaders();
        send(response, "conversation", { id: conversation.id });
        const left = new AbortController();
        response.on("close", () => left.abort());
        const turns = [...before, { role: "user", text }].map(({ role, text }) => ({ role, text }) as Turn);
        let answer = "";
        try {
          for await (const piece of model.answer(turns, left.signal)) {
            answer += piece;
            send(response, "token", { text: piece });
          }
          send(response, "done", { provider: model.name });
        } catch (error) {
          if (!left.signal.aborted) {
            log("error", "no answer", { provider: model.name, error: String(error) });
            send(response, "failed", { error: "the model does not answer" });
          }
        }
        // What was said is kept, even if nobody stayed to hear the end.
        if (answer) await messages.create({ conversation: conversation.id, place: before.length + 1, role: "assistant", text: answer });
        response.end();
      });

      app.get("/conversations/:id", async (request, response) => {
        const { id } = await mine(String(request.params["id"]), identityOf(response).id);
        const turns = await turnsOf(id);
        response.json({ id, messages: turns.map(({ role, text, createdAt }) => ({ role, text, createdAt })) });
      });
    },
  });
}
