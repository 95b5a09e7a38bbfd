/**
 * Everything that CI checks. Conformance, which mostly waits, runs beside the rest; after a fault nothing more is begun. Tests
 * come last: of a run that is green the summary of the test runner is the last thing printed.
 */
import { run, runBeside } from './project.ts';

const MS_PER_SECOND = 1000;
const CONFORMANCE = 'test/conformance/main.ts';

interface Step {
  name: string;
  program: string;
  args: string[];
}

/** In the order of what is fastest to know. */
const steps: readonly Step[] = [
  { name: 'types', program: 'tsc', args: ['-p', '.'] },
  { name: 'lint', program: 'oxlint', args: ['--type-aware', '--deny-warnings', '.'] },
  { name: 'format', program: 'biome', args: ['format', '.'] },
  { name: 'unused code and dependencies', program: 'knip', args: ['--no-progress'] },
  { name: 'generated docs', program: 'node', args: ['tools/generate.ts', '--check'] },
];
const conformance: Step = { name: 'MCP conformance', program: 'node', args: [CONFORMANCE] };

let failed = 0;
/** What failed before the tests ended stands far above their summary. */
const again: string[] = [];

async function check(those: readonly Step[]): Promise<void> {
  for (const { name, program, args } of those) {
    if (failed !== 0) return;
    const started = performance.now();
    const { code, printed } = await runBeside(program, args);
    const text = `== ${name}: ${[program, ...args].join(' ')}\n${printed}${told(name, started, code)}`;
    console.log(text);
    if (code !== 0) again.push(text);
    failed ||= code;
  }
}

function told(name: string, started: number, code: number): string {
  const seconds = ((performance.now() - started) / MS_PER_SECOND).toFixed(1);
  return code === 0
    ? `== ${name}: ok, ${seconds} s`
    : `== ${name}: FAILED after ${seconds} s (exit code ${code})`;
}

async function test(): Promise<void> {
  if (failed !== 0) return;
  const args = ['test', ...process.argv.slice(2)];
  console.log(`== tests: npm ${args.join(' ')}`);
  const started = performance.now();
  const code = await run('npm', args);
  if (code !== 0) console.error(told('tests', started, code));
  failed ||= code;
}

const beside = check([conformance]);
await check(steps);
await test();
await beside;
for (const text of again) console.error(text);
process.exit(failed);
