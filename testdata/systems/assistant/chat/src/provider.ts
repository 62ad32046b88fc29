import { setTimeout as wait } from "node:timers/promises";
import OpenAI from "openai";

export interface Turn {
  role: "user" | "assistant";
  text: string;
}

/** Who answers. */
export interface ChatProvider {
  readonly name: string;
  /** The answer, piece by piece. It ends early when the signal says so. */
  answer(turns: Turn[], signal: AbortSignal): AsyncIterable<string>;
}

/** Answers without any model: it says what it heard. For development and tests. */
export class EchoProvider implements ChatProvider {
  readonly name = "echo";

  constructor(private readonly pauseMs = 20) {}

  async *answer(turns: Turn[], signal: AbortSignal): AsyncIterable<string> {
    const heard = turns.at(-1)?.text ?? "";
    for (const word of `You said: ${heard}`.match(/\S+\s*/g) ?? []) {
      await wait(this.pauseMs, undefined, { signal });
      yield word;
    }
  }
}

/** Any model behind OpenAI's interface. */
export class OpenAiProvider implements ChatProvider {
  readonly name = "openai";
  readonly #client: OpenAI;

  constructor(
    key: string,
    private readonly model: string,
    address: string | undefined,
  ) {
    this.#client = new OpenAI({ apiKey: key, baseURL: address, maxRetries: 2, timeout: 60_000 });
  }

  async *answer(turns: Turn[], signal: AbortSignal): AsyncIterable<string> {
    const messages = turns.map(({ role, text }) => ({ role, content: text }));
    const stream = await this.#client.chat.completions.create({ model: this.model, messages, stream: true }, { signal });
    for await (const chunk of stream) {
      const text = chunk.choices[0]?.delta.content;
      if (text) yield text;
    }
  }
}
