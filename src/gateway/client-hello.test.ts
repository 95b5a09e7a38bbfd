import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import test, { before } from 'node:test';
import { connect } from 'node:tls';
import fc from 'fast-check';
import { HelloReader, MAX_HELLO_BYTES, MAX_RECORDS } from './client-hello.ts';

/** What Node really sends. */
async function helloOf(options: { servername?: string; ALPNProtocols?: string[] }): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options });
  client.on('error', () => {});
  const [socket] = await once(server, 'connection');
  const [bytes] = await once(socket, 'data');
  client.destroy();
  socket.destroy();
  server.close();
  return bytes;
}

const readClientHello = (bytes: Buffer) => new HelloReader().read(bytes);

/** The same message in records of `size` bytes. */
function inRecords(message: Buffer, size: number): Buffer {
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size);
    records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part);
  }
  return Buffer.concat(records);
}

let hello: Buffer;
before(async () => {
  hello = await helloOf({ servername: 'app.example.com', ALPNProtocols: ['acme-tls/1'] });
});
const told = { servername: 'app.example.com', protocols: ['acme-tls/1'] };

test('the name and the protocols of a real hello are read', async () => {
  assert.deepEqual(readClientHello(hello), told);
  assert.deepEqual(readClientHello(await helloOf({ ALPNProtocols: ['h2', 'http/1.1'] })), {
    servername: undefined,
    protocols: ['h2', 'http/1.1'],
  });
});

test('a hello that has not come whole is waited for, wherever it was cut', () => {
  for (let length = 0; length < hello.length; length++)
    assert.equal(readClientHello(hello.subarray(0, length)), 'incomplete', String(length));
});

test('a hello in records of any size is the same hello, in whatever pieces they come', () => {
  const message = hello.subarray(5);
  const smallest = Math.ceil(message.length / MAX_RECORDS);
  fc.assert(
    fc.property(fc.integer({ min: smallest, max: 600 }), fc.integer({ min: 1, max: 700 }), (size, piece) => {
      const records = inRecords(message, size);
      const reader = new HelloReader();
      let found: ReturnType<HelloReader['read']> = 'incomplete';
      for (let at = 0; at < records.length; at += piece) {
        assert.equal(found, 'incomplete');
        found = reader.read(records.subarray(at, at + piece));
      }
      assert.deepEqual(found, told);
    }),
  );
});

test('a hello in more records than anybody needs is none, and no byte of one is copied more than once', (t) => {
  let copied = 0;
  const concat = Buffer.concat.bind(Buffer);
  t.mock.method(Buffer, 'concat', (parts: readonly Uint8Array[], length?: number) => {
    const whole = concat(parts, length);
    copied += whole.length;
    return whole;
  });
  const message = Buffer.alloc(MAX_HELLO_BYTES);
  message.set([1, 0, 0x3f, 0xfc]);
  const least = Math.ceil(MAX_HELLO_BYTES / MAX_RECORDS);
  assert.equal(readClientHello(inRecords(message, least - 1)), undefined);
  copied = 0;
  const reader = new HelloReader();
  // As small as packets can be.
  for (const byte of inRecords(message, least).subarray(0, -1))
    assert.equal(reader.read(Buffer.of(byte)), 'incomplete');
  assert.ok(copied <= 2 * MAX_HELLO_BYTES, `${copied} bytes`);
});

test('no bytes make it throw, and a changed hello is read or is none', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => void readClientHello(Buffer.from(bytes))),
  );
  fc.assert(
    fc.property(fc.nat(), fc.nat(255), (at, value) => {
      const changed = Buffer.from(hello);
      changed[at % changed.length] = value;
      readClientHello(changed);
    }),
  );
});

test('plain HTTP is no hello', () => {
  assert.equal(readClientHello(Buffer.from('GET / HTTP/1.1\r\n')), undefined);
});
