/** Rows of the store on their way to a service: many in portions, and each for itself where one can't be read. */
import type { Clock } from './clock.ts';
import { messageOf } from './errors.ts';
import type { Log } from './record.ts';
import { cleanText } from './untrusted.ts';

/** Rows read at once while a list is filtered. */
export const PORTION_ROWS = 500;

/** Everything behind a key, in the order of the key. `read` answers at most `limit` rows that come after it. */
export async function* inPortions<Row, Key>(
  after: Key,
  keyOf: (row: Row) => Key,
  read: (after: Key, limit: number) => Promise<Row[]>,
): AsyncGenerator<Row> {
  let last = after;
  let rows: Row[];
  do {
    rows = await read(last, PORTION_ROWS);
    yield* rows;
    last = rows.map(keyOf).at(-1) ?? last;
  } while (rows.length === PORTION_ROWS);
}

/** Undefined for a row that can't be read; the log then has `fault`, with the reason. */
export function readRow<Value>(
  parse: () => Value,
  { log, clock }: { log: Log; clock: Clock },
  fault: { message: string; hostname?: string | undefined },
): Value | undefined {
  try {
    return parse();
  } catch (cause) {
    const message = `${fault.message}: ${cleanText(messageOf(cause))}`;
    log.write({ ...fault, message, time: clock.now(), kind: 'system', level: 'error', component: 'store' });
    return undefined;
  }
}
