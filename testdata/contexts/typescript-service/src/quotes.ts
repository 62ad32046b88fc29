/** One quotation, and who said it. */
export interface Quote {
  readonly id: number;
  readonly text: string;
  readonly author: string;
}

/** The quotations of one process, in the order in which they came. */
export class Quotes {
  readonly #quotes: Quote[] = [];

  add(text: string, author: string): Quote {
    const quote = { id: this.#quotes.length + 1, text, author };
    this.#quotes.push(quote);
    return quote;
  }

  find(id: number): Quote | undefined {
    return this.#quotes[id - 1];
  }

  all(author?: string): readonly Quote[] {
    return author === undefined
      ? this.#quotes
      : this.#quotes.filter((quote) => quote.author === author);
  }
}
