/**
 * A call that takes long, answered as a stream of events to who accepts one: `progress` as it comes, then `result`, or
 * `error` with what the body would have been. It begins with the first progress, so that what is quick, or refused, is
 * answered with its status as everything else. Called by `rest.ts`.
 * @see {@link https://html.spec.whatwg.org/multipage/server-sent-events.html | Server-sent events}
 */
import type { Exchange } from '../core/exchange.ts';
import type { AnyOperation, Progress } from '../core/operation.ts';

const EVENTS_TYPE = 'text/event-stream';
const OK = 200;

export interface ProgressStream {
  readonly progress: (update: Progress) => void;
  /** False when the stream has not begun: then the answer goes out as usual. */
  end(event: 'result' | 'error', data: string): boolean;
}

/** Undefined where nobody asked for it. */
export function progressStream(
  { headers, reply }: Exchange,
  { task }: AnyOperation,
): ProgressStream | undefined {
  if (task !== true || headers.accept?.includes(EVENTS_TYPE) !== true) return undefined;
  const send = (event: string, data: string) => `event: ${event}\ndata: ${data}\n\n`;
  return {
    progress(update) {
      if (reply.writableEnded) return;
      if (!reply.headersSent)
        reply.writeHead(OK, {
          'content-type': EVENTS_TYPE,
          'cache-control': 'no-store, no-transform',
          'x-accel-buffering': 'no',
          'x-content-type-options': 'nosniff',
        });
      // A few short lines: a client that does not read them has nothing to lose but these.
      reply.write(send('progress', JSON.stringify(update)));
    },
    end(event, data) {
      if (!reply.headersSent) return false;
      reply.end(send(event, data));
      return true;
    },
  };
}
