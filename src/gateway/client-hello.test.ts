import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import test, { before } from 'node:test';
import { connect } from 'node:tls';
import fc from 'fast-check';
import { readClientHello } from './client-hello.ts';

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

test('a hello in records of any size is the same hello', () => {
  const message = hello.subarray(5);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 600 }), (size) => {
      const records: Buffer[] = [];
      for (let at = 0; at < message.length; at += size) {
        const part = message.subarray(at, at + size);
        records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part);
      }
      assert.deepEqual(readClientHello(Buffer.concat(records)), told);
    }),
  );
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
