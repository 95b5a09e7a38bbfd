import assert from 'node:assert/strict';
import test from 'node:test';
import type { ContainerEngine, PullProgress } from './engine.ts';
import { pull } from './pull.ts';

const BYTES = 1000;

async function told(progress: readonly PullProgress[]): Promise<string[]> {
  const messages: string[] = [];
  const engine: Pick<ContainerEngine, 'pullImage'> = {
    async *pullImage() {
      yield* progress;
    },
  };
  await pull(engine, 'contract/image:test', {
    tell: (message) => void messages.push(message),
    signal: new AbortController().signal,
  });
  return messages;
}

const downloading = (doneBytes: number, layer = 'one'): PullProgress => ({
  layer,
  status: 'Downloading',
  doneBytes,
  totalBytes: BYTES,
});

test('a layer is told of at every fifth of it, however often the engine does', async () => {
  const messages = await told(Array.from({ length: BYTES + 1 }, (_, i) => downloading(i)));
  assert.deepEqual(
    messages,
    [0, 20, 40, 60, 80, 100].map((percent) => `layer one: Downloading ${percent} % of ${BYTES} bytes`),
  );
});

test('incident row 20: a registry that tells of no end of layers, in hostile words, is told cleaned and bounded', async () => {
  const layers = Array.from({ length: 5000 }, (_, i) => downloading(0, `${i}\u001b[2J${'x'.repeat(1000)}`));
  const messages = await told(layers);
  assert.equal(messages.length, 1000);
  assert.ok(messages.every((message) => message.length < 200 && !message.includes('\u001b')));
});
