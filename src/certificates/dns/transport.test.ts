import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import test, { suite, type TestContext } from 'node:test';
import { eventually } from '../../../test/support/eventually.ts';
import { ManualClock, MINUTE, SECOND, systemClock } from '../../core/clock.ts';
import { AppError } from '../../core/errors.ts';
import { DnsFault } from './fault.ts';
import { recordsOf } from './resolver.ts';
import { CLASS, TYPE, writeRecord, writeText } from './message.ts';
import { ask } from './transport.ts';

const QUERY = { name: 'example.test', type: 'TXT', recursionDesired: true } as const;
/** Of work that nobody cancels; the runner ends a test that hangs. */
const { signal } = new AbortController();

type Respond = (query: Buffer, send: (answer: Buffer) => void) => void;

/** A hostile name server: UDP and TCP on one port. */
async function startServer(t: TestContext, udp: Respond, tcp?: Respond) {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) =>
      tcp?.(chunk.subarray(2), (answer) => {
        const length = Buffer.alloc(2);
        length.writeUInt16BE(answer.length);
        // In two pieces, cut within the length.
        socket.write(length.subarray(0, 1));
        socket.end(Buffer.concat([length.subarray(1), answer]));
      }),
    );
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const socket: DatagramSocket = createSocket('udp4').bind(port, '127.0.0.1');
  await once(socket, 'listening');
  let queries = 0;
  socket.on('message', (query, from) => {
    queries += 1;
    udp(query, (answer) => socket.send(answer, from.port, from.address));
  });
  t.after(() => {
    socket.close();
    server.close();
  });
  return {
    address: '127.0.0.1',
    port,
    get queries() {
      return queries;
    },
  };
}

const network = { clock: systemClock, randomBytes };

function answerTo(query: Buffer, text: string, change: (bytes: Buffer) => void = () => undefined): Buffer {
  const record = writeRecord({
    name: 'example.test',
    type: TYPE.TXT,
    class: CLASS.IN,
    ttl: 1,
    rdata: writeText(text),
  });
  const bytes = Buffer.concat([query, record]);
  bytes.writeUInt16BE(0x8400, 2);
  bytes.writeUInt16BE(1, 6);
  change(bytes);
  return bytes;
}

const textsIn = (message: Awaited<ReturnType<typeof ask>>) =>
  recordsOf(message, 'example.test', 'TXT').map(({ text }) => text);

suite('an exchange with a name server', () => {
  test('passes over what is no answer to the query and takes the one that is', async (t) => {
    const server = await startServer(t, (query, send) => {
      send(answerTo(query, 'wrong id', (bytes) => bytes.writeUInt16BE(bytes.readUInt16BE(0) ^ 1, 0)));
      send(answerTo(query, 'another question', (bytes) => bytes.write('X', 13)));
      send(answerTo(query, 'another type', (bytes) => bytes.writeUInt16BE(TYPE.A, query.length - 4)));
      send(answerTo(query, 'a query', (bytes) => bytes.writeUInt16BE(0x0400, 2)));
      send(Buffer.from('no message'));
      send(answerTo(query, 'cut').subarray(0, -1));
      send(answerTo(query, 'genuine'));
    });
    assert.deepEqual(textsIn(await ask(network, server, QUERY, signal)), ['genuine']);
  });

  test('a truncated answer is asked for again over TCP, in whatever pieces it comes', async (t) => {
    const server = await startServer(
      t,
      (query, send) => send(answerTo(query, 'cut', (bytes) => bytes.writeUInt16BE(0x8600, 2))),
      (query, send) => send(answerTo(query, 'v'.repeat(5000))),
    );
    assert.deepEqual(textsIn(await ask(network, server, QUERY, signal)), ['v'.repeat(5000)]);
  });

  test('over TCP a wrong answer is malformed at once', async (t) => {
    const server = await startServer(
      t,
      (query, send) => send(answerTo(query, 'cut', (bytes) => bytes.writeUInt16BE(0x8600, 2))),
      (query, send) =>
        send(answerTo(query, 'x', (bytes) => bytes.writeUInt16BE(bytes.readUInt16BE(0) ^ 1, 0))),
    );
    await assert.rejects(ask(network, server, QUERY, signal), { kind: 'malformed' });
  });

  test('a flood of wrong answers ends it', async (t) => {
    const server = await startServer(t, (query, send) => {
      for (let i = 0; i < 100; i += 1) send(Buffer.from('no message'));
      void query;
    });
    await assert.rejects(ask(network, server, QUERY, signal), { kind: 'malformed' });
  });

  test('silence is a timeout, after a second try', async (t) => {
    const clock = new ManualClock();
    const server = await startServer(t, () => undefined);
    const answer = ask({ clock, randomBytes }, server, QUERY, signal);
    const failed = assert.rejects(answer, (error) => error instanceof DnsFault && error.kind === 'timeout');
    await eventually(async () => (server.queries === 1 ? true : undefined), 'the first query');
    clock.advance(2 * SECOND);
    await eventually(async () => (server.queries === 2 ? true : undefined), 'the second query');
    clock.advance(2 * SECOND);
    await failed;
    clock.advance(MINUTE);
    assert.equal(server.queries, 2);
  });

  test('a closed port is unreachable', async (t) => {
    const server = await startServer(t, () => undefined);
    const closed = createSocket('udp4').bind(0, '127.0.0.1');
    await once(closed, 'listening');
    const { port } = closed.address();
    await new Promise<void>((done) => closed.close(done));
    await assert.rejects(ask(network, { ...server, port }, QUERY, signal), { kind: 'unreachable' });
  });

  test('a cancelled question ends at once', async (t) => {
    const cancel = new AbortController();
    const server = await startServer(t, () => cancel.abort());
    await assert.rejects(
      ask(network, server, QUERY, cancel.signal),
      (error) => error instanceof AppError && error.code === 'CANCELLED',
    );
  });
});
