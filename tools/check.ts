/** Everything that CI checks, in the order of what is fastest to know; stops at the first fault. Tests come last, so
 * that the summary of the test runner is the last thing printed. */
import { run } from './project.ts';

const MS_PER_SECOND = 1000;
const CONFORMANCE = 'test/conformance/main.ts';

interface Step {
  name: string;
  program: string;
  args: string[];
}

const steps: Step[] = [
  { name: 'types', program: 'tsc', args: ['-p', '.'] },
  { name: 'lint', program: 'oxlint', args: ['--type-aware', '--deny-warnings', '.'] },
  { name: 'format', program: 'biome', args: ['format', '.'] },
  { name: 'unused code and dependencies', program: 'knip', args: ['--no-progress'] },
  { name: 'generated docs', program: 'node', args: ['tools/generate.ts', '--check'] },
  { name: 'MCP conformance', program: 'node', args: [CONFORMANCE] },
  { name: 'tests', program: 'npm', args: ['test', ...process.argv.slice(2)] },
];

for (const { name, program, args } of steps) {
  console.log(`== ${name}: ${[program, ...args].join(' ')}`);
  const started = performance.now();
  const code = run(program, args);
  const last = name === 'tests';
  const seconds = ((performance.now() - started) / MS_PER_SECOND).toFixed(1);
  if (code !== 0) {
    console.error(`== ${name}: FAILED after ${seconds} s (exit code ${code})`);
    process.exit(code);
  }
  if (!last) console.log(`== ${name}: ok, ${seconds} s`);
}
