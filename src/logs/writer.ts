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
const { directory, compressAfterDays, ...retention } = workerData as WriterData;
const store = new LogStore(directory);

let isClosed = false;
let isPacking = false;
/** Of the last sweep. */
let now = 0;

port.on('message', (message: ToWriter) => {
  switch (message.type) {
    case 'append':
      return answer({ type: 'appended', ...store.append(message.texts) });
    case 'sweep':
      answer(sweep(message.now));
      now = message.now;
      if (compressAfterDays > 0) packUntilDone();
      return;
    case 'close':
      isClosed = true;
      store.close();
      return port.close();
  }
});

/** A piece between two messages: records that come wait for no more than one. */
function packUntilDone(): void {
  if (isPacking) return;
  isPacking = true;
  const goOn = () => {
    isPacking = !isClosed && packOne();
    if (isPacking) setImmediate(goOn);
  };
  setImmediate(goOn);
}

/** What can't be done now is tried again after the next sweep. */
function packOne(): boolean {
  try {
    return store.pack(now, compressAfterDays);
  } catch (cause) {
    answer({ type: 'not_packed', error: messageOf(cause) });
    return true;
  }
}

function sweep(time: number): FromWriter {
  try {
    return { type: 'swept', error: undefined, ...store.sweep(time, retention) };
  } catch (cause) {
    return { type: 'swept', error: messageOf(cause), deleted: [], bytes: 0 };
  }
}

function answer(message: FromWriter): void {
  port.postMessage(message);
}
