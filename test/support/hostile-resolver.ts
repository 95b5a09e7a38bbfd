/**
 * Preloaded into the product (`NODE_OPTIONS=--import`): DNS as an attacker runs it. `TEST_RESOLVER` is JSON, name → a
 * list of answers, each a list of addresses; a name's answers take turns. Other names resolve as usual.
 */
import dns, { type LookupAddress, type LookupOptions } from 'node:dns';
import { isIP } from 'node:net';
import { syncBuiltinESMExports } from 'node:module';

type Answer = (error: Error | null, found: string | LookupAddress[], family?: number) => void;

const answers: Readonly<Record<string, string[][]>> = JSON.parse(process.env.TEST_RESOLVER ?? '{}');
const turns = new Map<string, number>();
const usual = dns.lookup;

function lookup(name: string, options: LookupOptions | Answer, callback?: Answer): void {
  const answer = callback ?? (options as Answer);
  const known = answers[name.toLowerCase()];
  if (!known) {
    Reflect.apply(usual, dns, callback ? [name, options, callback] : [name, options]);
    return;
  }
  const turn = turns.get(name) ?? 0;
  turns.set(name, turn + 1);
  const found = (known[turn % known.length] ?? []).map((address) => ({ address, family: isIP(address) }));
  const isAll = typeof options === 'object' && options.all === true;
  setImmediate(() => (isAll ? answer(null, found) : answer(null, found[0]?.address ?? '', found[0]?.family)));
}

Object.assign(dns, { lookup });
syncBuiltinESMExports();
