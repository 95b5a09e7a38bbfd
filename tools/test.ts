/**
 * Every test, or those that are named: `npm test`, `npm test -- src/core/ids.test.ts --test-name-pattern=trace`.
 * Prints the summary of Node's test runner last.
 */
import { globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root, run } from './project.ts';

/** They start programs of their own, and each has a process of its own. */
const WHOLE = 'test/**/*.test.ts';
/** Parts in memory, which share a process: most of what a file costs is loading what its neighbours load too. */
const PARTS = 'src/**/*.test.ts';
/** Of neighbours in a process. More would leave cores without work at the end. */
const FILES_TOGETHER = 14;
/** A test that hangs is a failed test; none takes this long otherwise. */
const TIMEOUT_MS = 180_000;

const given = process.argv.slice(2);
const flags = given.filter((argument) => argument.startsWith('-'));
const named = given.filter((argument) => !argument.startsWith('-'));

const folder = mkdtempSync(join(tmpdir(), 'ohp-tests-'));
try {
  process.exitCode = await run('node', [
    '--disable-warning=ExperimentalWarning',
    '--test',
    `--test-timeout=${TIMEOUT_MS}`,
    // One file more than there are cores: engines and CAs are waited for. Node's own default leaves a core idle, which is
    // half of a machine with two. A flag that is given counts instead.
    `--test-concurrency=${availableParallelism() + 1}`,
    ...flags,
    ...(named.length > 0 ? named : [...together(globSync(PARTS, { cwd: root }).sort()), WHOLE]),
  ]);
} finally {
  rmSync(folder, { recursive: true });
}

/** Files that load the given ones, some each. The runner tells a test by the file where it stands, not by these. */
function together(files: readonly string[]): string[] {
  const groups: string[] = [];
  for (let first = 0; first < files.length; first += FILES_TOGETHER) {
    const group = files.slice(first, first + FILES_TOGETHER);
    const path = join(folder, `${group[0]?.replaceAll('/', '+')} and ${group.length - 1} more.mjs`);
    // All are loaded before a test begins, so that hooks of files are in place as they are for one file.
    const imports = group.map((file) => `import ${JSON.stringify(pathToFileURL(join(root, file)).href)};\n`);
    writeFileSync(path, imports.join(''));
    groups.push(path);
  }
  return groups;
}
