/**
 * Runs the conformance suite against a server that has the fixtures, behind its bearer gate: the suite can't send a
 * credential, so a forwarder on loopback adds it. Prints one line per run; fails when a run fails.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startForwarder, type Target } from './forwarder.ts';

const runs: readonly (readonly string[])[] = [
  ['--requirements', '2025-11-25'],
  ['--requirements', '2026-07-28'],
  ['--suite', 'all', '--spec-version', '2025-06-18'],
  ['--suite', 'all', '--spec-version', '2025-03-26'],
];

const suite = join(import.meta.dirname, '../../node_modules/@modelcontextprotocol/conformance/dist/index.js');
const baseline = join(import.meta.dirname, 'baseline.yml');
const TIMEOUT_MS = 60_000;

/** True when every run passed. */
export async function runConformance(target: Target, print: (line: string) => void): Promise<boolean> {
  await using forwarder = await startForwarder(target);
  const output = mkdtempSync(join(tmpdir(), 'conformance-'));
  try {
    let passed = true;
    for (const options of runs) {
      const result = await runSuite(forwarder.url, options, output);
      const summary = /Total: .*/.exec(result.output)?.[0] ?? `exit code ${result.code}`;
      print(`conformance ${options.join(' ')}: ${result.code === 0 ? 'passed' : 'FAILED'} (${summary})`);
      if (result.code !== 0) print(result.output);
      passed &&= result.code === 0;
    }
    return passed;
  } finally {
    rmSync(output, { recursive: true });
  }
}

/** Scenario of each run → its score, whatever it is. */
export async function runScenarios(target: Target): Promise<Map<string, string>> {
  await using forwarder = await startForwarder(target);
  const output = mkdtempSync(join(tmpdir(), 'conformance-'));
  try {
    const scores = new Map<string, string>();
    for (const options of runs) {
      const result = await runSuite(forwarder.url, options, output);
      for (const [, scenario, score] of result.output.matchAll(/^[✓✗] (\S+): (.*)$/gm))
        scores.set(`${options.join(' ')} ${scenario}`, score ?? '');
    }
    return scores;
  } finally {
    rmSync(output, { recursive: true });
  }
}

function runSuite(url: string, options: readonly string[], output: string) {
  const common = ['server', '--url', url, '--expected-failures', baseline, '-o', output];
  const child = spawn(process.execPath, [suite, ...common, ...options], { timeout: TIMEOUT_MS });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise<{ code: number | null; output: string }>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, output: Buffer.concat(chunks).toString() }));
  });
}
