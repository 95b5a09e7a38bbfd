/**
 * The simulation of issuance with many seeds: ten years each, until the time is up. Prints how many held, each minute, and
 * the seeds that did not, as soon as they are known.
 *
 *   node tools/run.mjs bench/issuance.ts [minutes] [first seed] [years]
 */
import { simulate } from '../src/certificates/simulation.fixture.ts';

const DEFAULT_YEARS = 10;
const MINUTE_MS = 60_000;
const MINUTES = Number(process.argv[2] ?? 1);
const FIRST = Number(process.argv[3] ?? 1);
const YEARS = Number(process.argv[4] ?? DEFAULT_YEARS);
// Faults are thrown by the thousand, and nobody reads where: a seed that fails is run again by itself.
Error.stackTraceLimit = 0;

const began = performance.now();
const minutes = () => (performance.now() - began) / MINUTE_MS;
const sum = { certificates: 0, orders: 0, deaths: 0, requests: 0 };
let [failed, toldAt] = [0, 0];
let seed = FIRST;
const tell = () =>
  console.log(
    `${seed - FIRST} seeds of ${YEARS} years in ${minutes().toFixed(1)} minutes, ${failed} failed; ${JSON.stringify(sum)}`,
  );
for (; minutes() < MINUTES; seed++) {
  try {
    const outcome = await simulate(seed, YEARS);
    for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += outcome[key];
  } catch (cause) {
    failed++;
    console.log(`${seed}: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  if (minutes() - toldAt < 1) continue;
  toldAt = minutes();
  tell();
}
tell();
process.exitCode = failed > 0 ? 1 : 0;
