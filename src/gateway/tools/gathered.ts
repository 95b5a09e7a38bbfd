/** Bytes that come in parts, kept in one piece: many small parts cost no more memory than few large ones. */
const FIRST_BYTES = 4096;

export class Gathered {
  #space = Buffer.alloc(FIRST_BYTES);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** A view, good until the next change. */
  get bytes(): Buffer {
    return this.#space.subarray(0, this.#length);
  }

  append(part: Uint8Array): void {
    const length = this.#length + part.length;
    if (length > this.#space.length) this.#move(Math.max(length, 2 * this.#space.length), 0);
    this.#space.set(part, this.#length);
    this.#length = length;
  }

  /** The first so many. Space that is not needed any more is given back. */
  drop(count: number): void {
    const rest = this.#length - count;
    if (rest <= FIRST_BYTES && this.#space.length > FIRST_BYTES) this.#move(FIRST_BYTES, count);
    else if (count > 0) this.#space.copyWithin(0, count, this.#length);
    this.#length = rest;
  }

  #move(size: number, from: number): void {
    const space = Buffer.alloc(size);
    this.#space.copy(space, 0, from, this.#length);
    this.#space = space;
  }
}
