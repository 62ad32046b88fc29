const REST_MS = 5000;

/** The addresses of one service, each in its turn. One that did not answer is left alone for a while. */
export class Balancer {
  #next = 0;
  readonly #resting = new Map<string, number>();

  constructor(
    readonly targets: string[],
    private readonly now: () => number = Date.now,
  ) {
    if (targets.length === 0) throw new Error("a service needs an address");
  }

  /** Every address once, the best first: those that rest come last, since all of them may. */
  order(): string[] {
    const turned = this.targets.map((_, place) => this.targets[(this.#next + place) % this.targets.length]!);
    this.#next = (this.#next + 1) % this.targets.length;
    const rests = (target: string) => (this.#resting.get(target) ?? 0) > this.now();
    return [...turned.filter((target) => !rests(target)), ...turned.filter(rests)];
  }

  failed(target: string): void {
    this.#resting.set(target, this.now() + REST_MS);
  }

  answered(target: string): void {
    this.#resting.delete(target);
  }
}
