/** Plain JavaScript into dist/, for running without type stripping. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { root, run } from './project.ts';

rmSync(join(root, 'dist'), { recursive: true, force: true });
process.exitCode = await run('tsc', ['-p', 'tools/tsconfig.build.json']);
