/** Thread that owns the log files: takes batches from sink.ts and answers each when it is in its file. */
import { parentPort, workerData } from 'node:worker_threads';
import { assert } from '../core/assert.ts';
import { messageOf } from '../core/errors.ts';
import type { FromWriter, ToWriter, WriterData } from './messages.ts';
import { LogStore } from './store.ts';
import { giveWay } from './thread.ts';

giveWay();
assert(parentPort, 'the writer runs as a thread');
const port = parentPort;
// Started by `startThread` with exactly this.
const { directory, ...retention } = workerData as WriterData;
const store = new LogStore(directory);

port.on('message', (message: ToWriter) => {
  switch (message.type) {
    case 'append':
      return answer({ type: 'appended', ...store.append(message.texts) });
    case 'sweep':
      return answer(sweep(message.now));
    case 'close':
      store.close();
      return port.close();
  }
});

function sweep(now: number): FromWriter {
  try {
    return { type: 'swept', error: undefined, ...store.sweep(now, retention) };
  } catch (cause) {
    return { type: 'swept', error: messageOf(cause), deleted: [], bytes: 0 };
  }
}

function answer(message: FromWriter): void {
  port.postMessage(message);
}
