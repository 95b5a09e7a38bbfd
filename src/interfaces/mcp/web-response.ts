/** Copies the body of a web `Response` to a reply, no faster than it is read. */
import type { Exchange } from '../../core/exchange.ts';

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
