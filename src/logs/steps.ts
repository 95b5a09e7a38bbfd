/** Durations in steps, so that percentiles can be told of any sum of counts: four steps to each doubling. */

const PER_DOUBLING = 4;
const LONGEST = 17;
const DIGITS = 3;

/** Milliseconds; step `n` is below bound `n`, and the last is above all: 1, 1.189, 1.414, 1.682, 2, … 131,072. */
export const bounds: readonly number[] = Array.from({ length: LONGEST * PER_DOUBLING + 1 }, (_, step) =>
  Number((2 ** (step / PER_DOUBLING)).toFixed(DIGITS)),
);

/** Of a record that has no duration. */
export const NO_STEP = -1;

export function stepOf(duration: number): number {
  let [low, high] = [0, bounds.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (duration < (bounds[middle] ?? Infinity)) high = middle;
    else low = middle + 1;
  }
  return low;
}

const [ZERO, NINE, MINUS, COLON] = [48, 57, 45, 58];
const DECIMAL = 10;

/** How many of each step. As text: `12:5 13:7`; two such texts with a space between are their sum. */
export class StepCounts {
  readonly #counts = new Map<number, number>();

  constructor(text = '') {
    this.addText(text);
  }

  add(step: number, count: number): void {
    this.#counts.set(step, (this.#counts.get(step) ?? 0) + count);
  }

  addAll(other: StepCounts): void {
    for (const [step, count] of other.#counts) this.add(step, count);
  }

  /** Read by the character: a day has megabytes of it. */
  addText(text: string): void {
    let [step, number, sign] = [0, 0, 1];
    for (let at = 0; at <= text.length; at += 1) {
      const code = at < text.length ? text.charCodeAt(at) : 0;
      if (code >= ZERO && code <= NINE) number = number * DECIMAL + code - ZERO;
      else if (code === MINUS) sign = -1;
      else {
        if (code === COLON) step = sign * number;
        else if (number > 0) this.add(step, number);
        [number, sign] = [0, 1];
      }
    }
  }

  text(): string {
    let text = '';
    for (const [step, count] of this.#counts) text += `${text === '' ? '' : ' '}${step}:${count}`;
    return text;
  }

  /** Steps that have some, in their order. */
  entries(): [step: number, count: number][] {
    return [...this.#counts].sort(([a], [b]) => a - b);
  }
}

/** The same in SQL. */
export const stepSql = (column: string): string =>
  `case when ${column} is null then ${NO_STEP} ${bounds.map((bound, step) => `when ${column} < ${bound} then ${step}`).join(' ')} else ${bounds.length} end`;

/**
 * The duration that a share (0 to 1) of them stays below, between the ends of its step: at most a fifth or a millisecond
 * beside the true one, and 131 s for all that is longer. Undefined when there are none.
 */
export function percentile(counts: StepCounts, share: number): number | undefined {
  const steps = counts.entries().filter(([step]) => step !== NO_STEP);
  const total = steps.reduce((sum, [, count]) => sum + count, 0);
  let left = total * share;
  for (const [step, count] of steps) {
    if (left <= count) {
      const lower = bounds[step - 1] ?? 0;
      return lower + ((bounds[step] ?? lower) - lower) * (left / count);
    }
    left -= count;
  }
  return undefined;
}
