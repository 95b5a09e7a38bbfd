/** The log as benches fill it: nothing of it is deleted. */
import type { Clock } from '../src/core/clock.ts';
import { levelsOf } from '../src/logs/levels.ts';
import { createLogSink, type LogSink, type LogSinkOptions } from '../src/logs/sink.ts';

const RETENTION_DAYS = 30;

type Bench = { directory: string; clock: Clock; queueRecords: number } & Pick<LogSinkOptions, 'startWriter'>;

export const benchSink = (bench: Bench): LogSink =>
  createLogSink({
    ...bench,
    levels: levelsOf('info'),
    retentionDays: RETENTION_DAYS,
    retentionBytes: Number.POSITIVE_INFINITY,
    stderr: true,
  });
