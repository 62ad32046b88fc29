/** The quotations of one process, in the order in which they came. */
export class Quotes {
    #quotes = [];
    add(text, author) {
        const quote = { id: this.#quotes.length + 1, text, author };
        this.#quotes.push(quote);
        return quote;
    }
    find(id) {
        return this.#quotes[id - 1];
    }
    all(author) {
        return author === undefined
            ? this.#quotes
            : this.#quotes.filter((quote) => quote.author === author);
    }
}
//# sourceMappingURL=quotes.js.map