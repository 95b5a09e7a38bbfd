/**
 * The simulation of issuance with many seeds: ten years each, until the time is up. Prints how many held, and the seeds
 * that did not.
 *
 *   node tools/run.mjs bench/issuance.ts [minutes] [first seed] [years]
 */
import { simulate } from '../src/certificates/simulation.fixture.ts';

const DEFAULT_YEARS = 10;
const MINUTES = Number(process.argv[2] ?? 1);
const FIRST = Number(process.argv[3] ?? 1);
const YEARS = Number(process.argv[4] ?? DEFAULT_YEARS);
const end = performance.now() + MINUTES * 60_000;
const sum = { certificates: 0, orders: 0, deaths: 0, requests: 0 };
const failed: string[] = [];
let seed = FIRST;
for (; performance.now() < end; seed++) {
  try {
    const outcome = await simulate(seed, YEARS);
    for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += outcome[key];
  } catch (cause) {
    failed.push(`${seed}: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
}
console.log(`${seed - FIRST} seeds of ${YEARS} years in ${MINUTES} minutes, ${failed.length} failed`);
console.log(JSON.stringify(sum));
for (const one of failed) console.log(one);
process.exitCode = failed.length > 0 ? 1 : 0;
