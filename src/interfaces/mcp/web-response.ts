/** The body of a web `Response` of the SDK: copied to a reply as it is, or taken apart into its messages. */
import type { Exchange } from '../../core/exchange.ts';

export const isEventStream = ({ headers }: Response): boolean =>
  headers.get('content-type')?.startsWith('text/event-stream') === true;

/** The data of each event of an event stream. What the SDK writes has one line of it. */
export async function* messagesOf({ body }: Response): AsyncGenerator<string> {
  let rest = '';
  for await (const text of body?.pipeThrough(new TextDecoderStream()) ?? []) {
    const events = (rest + text).split('\n\n');
    rest = events.pop() ?? '';
    for (const event of events) {
      const data = /^data: (.+)$/m.exec(event)?.[1];
      if (data !== undefined) yield data;
    }
  }
}

/** No faster than it is read. */
export async function pump({ body }: Response, { reply, signal }: Exchange): Promise<void> {
  const reader = body?.getReader();
  if (!reader) return void reply.end();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) break;
      // Arrives here as bytes: the SDK encodes its events.
      if (!reply.write(value as Uint8Array)) await drained(reply);
    }
  } finally {
    await reader.cancel().catch(() => undefined);
    reply.end();
  }
}

function drained(reply: Exchange['reply']): Promise<void> {
  return new Promise((resolve) => {
    reply.once('drain', resolve);
    reply.once('close', resolve);
  });
}
