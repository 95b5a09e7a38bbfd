/**
 * Every test, or those that are named: `npm test`, `npm test -- src/core/ids.test.ts --test-name-pattern=trace`.
 * Prints the summary of Node's test runner last.
 */
import { availableParallelism } from 'node:os';
import { run } from './project.ts';

const EVERY_TEST = ['src/**/*.test.ts', 'test/**/*.test.ts'];
/** A test that hangs is a failed test; none takes this long otherwise. */
const TIMEOUT_MS = 180_000;

const given = process.argv.slice(2);
const flags = given.filter((argument) => argument.startsWith('-'));
const files = given.filter((argument) => !argument.startsWith('-'));

process.exitCode = run('node', [
  '--disable-warning=ExperimentalWarning',
  '--test',
  `--test-timeout=${TIMEOUT_MS}`,
  // One file more than there are cores: engines and CAs are waited for. Node's own default leaves a core idle, which is
  // half of a machine with two. A flag that is given counts instead.
  `--test-concurrency=${availableParallelism() + 1}`,
  ...flags,
  ...(files.length > 0 ? files : EVERY_TEST),
]);
