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
  const found = bounds.findIndex((bound) => duration < bound);
  return found === -1 ? bounds.length : found;
}

/** The same in SQL. */
export const stepSql = (column: string): string =>
  `case when ${column} is null then ${NO_STEP} ${bounds.map((bound, step) => `when ${column} < ${bound} then ${step}`).join(' ')} else ${bounds.length} end`;

/**
 * The duration that a share (0 to 1) of them stays below, between the ends of its step: at most a fifth or a millisecond
 * beside the true one, and 131 s for all that is longer. Undefined when there are none.
 */
export function percentile(counts: ReadonlyMap<number, number>, share: number): number | undefined {
  const steps = [...counts].filter(([step]) => step !== NO_STEP).sort(([a], [b]) => a - b);
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
