/**
 * Sends the head of a reply whose body does not come at once. A head and a body that arrive together leave in one
 * write; a head that waits for its body (event streams, long polls) must not. One callback serves all replies of a turn.
 */
export interface HeldHead {
  readonly isHeadHeld: boolean;
  sendHead(): void;
}

export class HeadFlusher {
  #held: HeldHead[] = [];
  #isScheduled = false;

  later(head: HeldHead): void {
    this.#held.push(head);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    process.nextTick(this.#flush);
  }

  readonly #flush = (): void => {
    this.#isScheduled = false;
    const held = this.#held;
    this.#held = [];
    for (const head of held) if (head.isHeadHeld) head.sendHead();
  };
}
