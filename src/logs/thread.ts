/** Starts a thread of this folder. The same code runs from TypeScript sources and from a build: the extension is our own. */
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';

const MAX_HEAP_MB = 128;

/** The thread sees none of the process's environment: secrets may be in there. */
export function startThread(name: 'writer' | 'reader', workerData: object): Worker {
  const entry = new URL(`./${name}${extname(import.meta.url)}`, import.meta.url);
  return new Worker(entry, {
    workerData,
    name: `logs-${name}`,
    env: {},
    // Options of the process (--eval, --test and others) are not for the thread.
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB },
  });
}
