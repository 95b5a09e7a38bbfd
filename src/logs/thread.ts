/** Starts a thread of this folder. The same code runs from TypeScript sources and from a build: the extension is our own. */
import { getPriority, setPriority } from 'node:os';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';

/** The writer's garbage is batches: it is taken away sooner, and what stays is small. */
const MAX_HEAP_MB = { writer: 64, reader: 128 } as const;
const MAX_YOUNG_MB = 16;
/** Leaves the writer a quarter of a core that is all busy: enough for what such a core can serve. */
const NICENESS = 5;

/** The thread sees of the process's environment, where secrets may be, only what Node itself needs. */
export function startThread(name: 'writer' | 'reader', workerData: object): Worker {
  const entry = new URL(`./${name}${extname(import.meta.url)}`, import.meta.url);
  return new Worker(entry, {
    workerData,
    name: `logs-${name}`,
    env: nodeSettings(),
    // Options of the process (--eval, --test and others) are not for the thread.
    execArgv: [],
    resourceLimits: {
      maxOldGenerationSizeMb: MAX_HEAP_MB[name],
      maxYoungGenerationSizeMb: MAX_YOUNG_MB,
    },
  });
}

/**
 * For a thread to call first: on a machine that is all busy, requests go before records. Linux counts priority by
 * thread; elsewhere this would slow the whole process.
 */
export function giveWay(): void {
  // Who was started with less stays there: more takes a privilege.
  if (process.platform === 'linux' && getPriority() < NICENESS) setPriority(NICENESS);
}

/** Without its cache of compiled code, the thread would load a compiler of its own and keep it: 17 MB. */
function nodeSettings(): Record<string, string> {
  const { NODE_COMPILE_CACHE: cache } = process.env;
  return cache === undefined ? {} : { NODE_COMPILE_CACHE: cache };
}
