/** What crosses between the main thread and the threads of this folder: plain data only. */
import type { Answer, Presentation } from './present.ts';
import type { Search } from './query.ts';
import type { TextAnswer, TextQuestion } from './search.ts';
import type { StatsAnswer, StatsQuestion } from './stats.ts';
import type { Appended, Retention, Swept } from './store.ts';

export interface WriterData extends Retention {
  directory: string;
  /** Older days are compressed; 0: none. */
  compressAfterDays: number;
}

export type ToWriter =
  /** Records as `recordText` writes them, in their order. */
  { type: 'append'; texts: string[] } | { type: 'sweep'; now: number } | { type: 'close' };

/** One `appended` for each `append`, in the same order. */
export type FromWriter =
  | ({ type: 'appended' } & Appended)
  | ({ type: 'swept'; error: string | undefined } & Swept)
  /** That a day could not be compressed now. */
  | { type: 'not_packed'; error: string };

export interface ReaderData {
  directory: string;
}

export interface Question {
  search: Search;
  presentation: Presentation;
}

export type ToReader = Question | { stats: StatsQuestion } | { text: TextQuestion };

/** One answer for each question, in the same order. */
export type FromReader = { answer: Answer | StatsAnswer | TextAnswer } | { error: string };
