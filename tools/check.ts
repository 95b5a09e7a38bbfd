/**
 * Everything that CI checks. Conformance, which mostly waits, runs beside the rest; after a fault nothing more is begun. Tests
 * come last, so that the summary of the test runner is the last thing printed.
 */
import { run, runBeside } from './project.ts';

const MS_PER_SECOND = 1000;
const CONFORMANCE = 'test/conformance/main.ts';

interface Step {
  name: string;
  program: string;
  args: string[];
}

/** Beside one another; each one in the order of what is fastest to know. */
const lanes: readonly (readonly Step[])[] = [
  [
    { name: 'types', program: 'tsc', args: ['-p', '.'] },
    { name: 'lint', program: 'oxlint', args: ['--type-aware', '--deny-warnings', '.'] },
    { name: 'format', program: 'biome', args: ['format', '.'] },
    { name: 'unused code and dependencies', program: 'knip', args: ['--no-progress'] },
    { name: 'generated docs', program: 'node', args: ['tools/generate.ts', '--check'] },
  ],
  [{ name: 'MCP conformance', program: 'node', args: [CONFORMANCE] }],
];

let failed = 0;

async function check(steps: readonly Step[]): Promise<void> {
  for (const { name, program, args } of steps) {
    if (failed !== 0) return;
    const started = performance.now();
    const { code, printed } = await runBeside(program, args);
    console.log(`== ${name}: ${[program, ...args].join(' ')}\n${printed}${told(name, started, code)}`);
    failed ||= code;
  }
}

function told(name: string, started: number, code: number): string {
  const seconds = ((performance.now() - started) / MS_PER_SECOND).toFixed(1);
  return code === 0
    ? `== ${name}: ok, ${seconds} s`
    : `== ${name}: FAILED after ${seconds} s (exit code ${code})`;
}

await Promise.all(lanes.map(check));
if (failed !== 0) process.exit(failed);

const tests = ['test', ...process.argv.slice(2)];
console.log(`== tests: npm ${tests.join(' ')}`);
const started = performance.now();
const code = run('npm', tests);
if (code !== 0) console.error(told('tests', started, code));
process.exit(code);
