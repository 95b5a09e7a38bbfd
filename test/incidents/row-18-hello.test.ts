/**
 * Row 18: a hello that is looked at before the handshake costs no more than its bytes, in however many records and
 * packets it comes.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import test from 'node:test';
import { ClientPki } from '../support/client-pki.ts';
import { type Product, startProduct } from '../support/product.ts';

const RECORDS = 2500;
const CONNECTIONS = 20;
/** Further packets of one record on each. */
const ROUNDS = 10;
const MAX_CPU_SECONDS = 3;
const TICKS_PER_SECOND = 100;

test('incident 18: hellos in records of one byte take no time from the neighbours', async () => {
  using pki = new ClientPki();
  await using product = await startProduct();
  const client_auth = { mode: 'require', ca_pem: pki.root('Client Root').pem };
  const made = await product.api('POST', '/v1/proxies', {
    hostname: 'closed.example.com',
    target_url: 'http://127.0.0.1:9',
    client_auth,
  });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  const before = cpuSeconds(product);
  await using stack = new AsyncDisposableStack();
  const sockets: Socket[] = [];
  for (let i = 0; i < CONNECTIONS; i++) {
    const socket = connect({ port: product.httpsPort, host: '127.0.0.1', noDelay: true });
    stack.defer(() => void socket.destroy());
    sockets.push(socket.on('error', () => {}));
    await once(socket, 'connect');
    await write(socket, beginning());
  }
  for (let i = 0; i < ROUNDS; i++) {
    for (const socket of sockets) await write(socket, recordOf(0));
    assert.equal((await product.api('GET', '/v1/proxies')).status, 200);
  }
  const used = cpuSeconds(product) - before;
  assert.ok(used < MAX_CPU_SECONDS, `${used} seconds of the processor`);
});

/** @see {@link https://www.rfc-editor.org/rfc/rfc8446#section-5.1 | RFC 8446 §5.1} */
const recordOf = (byte: number): Buffer => Buffer.of(22, 3, 1, 0, 1, byte);

/** Of a ClientHello of 15,000 bytes, of which no more than 16 KiB of records are read. */
function beginning(): Buffer {
  const hello = Buffer.alloc(RECORDS);
  hello.set([1, 0, 0x3a, 0x98]);
  return Buffer.concat([...hello].map(recordOf));
}

const write = (socket: Socket, bytes: Buffer) => new Promise((resolve) => socket.write(bytes, resolve));

/** Of the process, in user mode and for it in the kernel. @see proc_pid_stat(5) */
function cpuSeconds({ child }: Product): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
