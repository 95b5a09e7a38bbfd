#!/usr/bin/env node
/** The `ohp` command: src/cli.ts, on a Node that can run it. Works through a link, as npm and npx make one. */
process.argv.splice(2, 0, 'src/cli.ts');
await import('../tools/run.mjs');
