/** A place in a `Roster`, which alone writes it. */
export interface Member {
  place: number;
}

/** The place of what is in no roster. */
export const NOWHERE = -1;

/**
 * What is going on right now and changes with every request. A list in which each member knows its place, not a Set:
 * V8 gives a Set a new table after as many deletions as it has room for, the old tables point to the new ones, and
 * once one of them is in the old generation everything that was ever in a later one stays alive until the next full
 * collection. Order is not kept.
 */
export class Roster<T extends Member> implements Iterable<T> {
  readonly #members: T[] = [];

  get size(): number {
    return this.#members.length;
  }

  add(member: T): void {
    if (this.#members[member.place] === member) return;
    member.place = this.#members.push(member) - 1;
  }

  /** False when it was not there. */
  delete(member: T): boolean {
    const { place } = member;
    if (this.#members[place] !== member) return false;
    const last = this.#members.pop();
    member.place = NOWHERE;
    if (last === undefined || last === member) return true;
    this.#members[place] = last;
    last.place = place;
    return true;
  }

  /** Those of this moment: they may leave while someone goes through them. */
  [Symbol.iterator](): Iterator<T> {
    return [...this.#members].values();
  }
}
