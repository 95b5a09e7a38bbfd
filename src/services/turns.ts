/** Changes of one service come one after the other. */

export interface Turns {
  <Result>(name: string, work: () => Promise<Result>): Promise<Result>;
  isBusy(name: string): boolean;
}

/** Each waits for the one before it of the same name. `changed` is told after each, and waited for. */
export function createTurns(changed?: (name: string) => Promise<void>): Turns {
  const last = new Map<string, Promise<unknown>>();
  async function inTurn<Result>(name: string, work: () => Promise<Result>): Promise<Result> {
    const before = last.get(name) ?? Promise.resolve();
    const mine = before.then(work, work);
    last.set(name, mine);
    try {
      return await mine;
    } finally {
      if (last.get(name) === mine) last.delete(name);
      await changed?.(name);
    }
  }
  return Object.assign(inTurn, { isBusy: (name: string): boolean => last.has(name) });
}
