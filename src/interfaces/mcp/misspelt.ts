/**
 * Parameters of the URL that were meant to narrow what is served and don't, because they are misspelt: ignored, they
 * would leave what was to be taken away. Anything else in the URL is the client's own affair.
 */
import { AppError } from '../../core/errors.ts';
import { cleanText } from '../../core/untrusted.ts';

const own = ['read_only', 'toolsets'] as const;
const byLetters = new Map<string, (typeof own)[number]>([
  ...own.map((name) => [lettersOf(name), name] as const),
  ['tools', 'toolsets'],
  ['ro', 'read_only'],
]);
/** Letters changed, left out, put in or swapped. */
const MAX_SLIPS = 2;
const MAX_SHOWN = 40;

/** @throws AppError INVALID_INPUT that names the one that was meant. */
export function refuseMisspelt(names: Iterable<string>): void {
  for (const name of names) {
    const meant = own.some((known) => known === name) ? undefined : meantBy(lettersOf(name));
    if (meant)
      throw new AppError(
        'INVALID_INPUT',
        `${cleanText(name, MAX_SHOWN)} in the URL: no such parameter; ${meant} is the one that narrows what is served`,
        { details: { valid_parameters: own } },
      );
  }
}

/** `readOnly`, `read-only`, `READ_ONLY` and `mcp.read_only` differ in what is not a letter, or in more than is there. */
function lettersOf(name: string): string {
  return name
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[^a-z]/g, '');
}

function meantBy(letters: string): string | undefined {
  for (const [known, name] of byLetters) {
    const isLong = known.length > 2 * MAX_SLIPS + 1;
    if (letters === known) return name;
    if (isLong && (letters.includes(known) || slips(letters, known) <= MAX_SLIPS)) return name;
  }
  return undefined;
}

/** Optimal string alignment; a number beyond `MAX_SLIPS` where the lengths alone say so. */
function slips(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > MAX_SLIPS) return MAX_SLIPS + 1;
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const changed = at(last, j - 1) + Number(a[i - 1] !== b[j - 1]);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwap ? at(before, j - 2) + 1 : changed;
      row.push(Math.min(at(last, j) + 1, at(row, j - 1) + 1, changed, swapped));
    }
    [before, last] = [last, row];
  }
  return at(last, b.length);
}

const at = (row: readonly number[], index: number): number => row[index] ?? Number.POSITIVE_INFINITY;
