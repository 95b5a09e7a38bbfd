/** Thread that reads the log files for archive.ts: a long search holds up neither the writer nor a request. */
import { performance } from 'node:perf_hooks';
import { parentPort, workerData } from 'node:worker_threads';
import { assert } from '../core/assert.ts';
import { SECOND } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { FromReader, ReaderData, ToReader } from './messages.ts';
import { type Answer, present } from './present.ts';
import { LogFiles } from './query.ts';
import { searchText, type TextAnswer } from './search.ts';
import { type StatsAnswer, statsOf } from './stats.ts';
import { giveWay } from './thread.ts';

const BUDGET_MS = 2 * SECOND;
/** Of a search, which comes in pieces: others wait no longer than for one. */
const PIECE_MS = SECOND / 2;

giveWay();
assert(parentPort, 'the reader runs as a thread');
const port = parentPort;
// Started by `startThread` with exactly this.
const files = new LogFiles((workerData as ReaderData).directory);
const budget = { milliseconds: BUDGET_MS, now: () => performance.now() };

port.on('message', (question: ToReader | 'close') => {
  if (question !== 'close') return port.postMessage(answerTo(question));
  files.close();
  port.close();
});

function answerTo(question: ToReader): FromReader {
  try {
    const answer = answerOf(question);
    const leftOut = files.leftOut();
    return { answer: leftOut.length === 0 ? answer : { ...answer, leftOut } };
  } catch (cause) {
    return { error: messageOf(cause) };
  }
}

function answerOf(question: ToReader): Answer | StatsAnswer | TextAnswer {
  if ('stats' in question) return statsOf(files, question.stats, budget);
  if ('text' in question) return searchText(files, question.text, { ...budget, milliseconds: PIECE_MS });
  return present(files.search(question.search, budget), question.presentation);
}
