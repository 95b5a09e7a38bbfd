/** Years with a CA that is hardly ever there, a store that fails and a process that dies. Many seeds: `bench/issuance.ts`. */
import test from 'node:test';
import { simulate } from './simulation.fixture.ts';

const SEEDS = 3;
const YEARS = 1;

test(`${SEEDS} times ${YEARS} simulated year: nothing in use expires while the CA answers one day in seven, no certificate is made twice, and the CA's limits hold`, async () => {
  for (let seed = 1; seed <= SEEDS; seed++) await simulate(seed, YEARS);
});
