/** Uploads that take their time: which wait is the client's, which the upstream's, and how long each may last. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import test from 'node:test';
import { ManualClock, SECOND } from '../core/clock.ts';
import {
  echo,
  type Fixture,
  http2Session,
  proxyOf,
  readUntil,
  startGateway,
  startUpstream,
} from '../../test/support/gateway.ts';
import { gatewayLimits } from './settings.ts';

const app = 'app.example.com';
const impatient = { redirect_to_https: false, response_timeout_ms: 5 * SECOND } as const;

/** Uploads that the upstream sees step by step: how they are announced, one part of them, their end. */
const framings: Record<string, { fields: string; part: (text: string) => string; end: string }> = {
  'Expect: 100-continue': {
    fields: 'Content-Length: 5\r\nExpect: 100-continue',
    part: (text) => text,
    end: '',
  },
  'a Trailer': {
    fields: 'Transfer-Encoding: chunked\r\nTrailer: x-sum',
    part: (text) => `${text.length}\r\n${text}\r\n`,
    end: '0\r\nX-Sum: 1\r\n\r\n',
  },
};

function startUpload(gateway: Fixture, fields: string): Socket {
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(`POST / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n${fields}\r\n\r\n`);
  return socket;
}

for (const [name, { fields, part, end }] of Object.entries(framings)) {
  test(`an upload with ${name} may take longer than its upstream may take to answer`, async () => {
    const clock = new ManualClock();
    await using upstream = await startUpstream(echo);
    await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url, impatient)] });
    const socket = startUpload(gateway, fields);
    const answer = readUntil(socket);
    const [request] = await once(upstream.server, 'request');
    for (const letter of 'hello') {
      const came = once(request, 'data');
      socket.write(part(letter));
      await came;
      clock.advance(4 * SECOND);
    }
    socket.write(end);
    assert.match(await answer, /HTTP\/1\.1 200 [^]*"body":"hello"/);
  });

  test(`after an upload with ${name} its upstream may take the response timeout, and no longer`, async () => {
    const clock = new ManualClock();
    await using upstream = await startUpstream(() => {});
    await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url, impatient)] });
    const socket = startUpload(gateway, fields);
    let text = '';
    socket.on('data', (chunk) => (text += chunk));
    const [request] = await once(upstream.server, 'request');
    const whole = once(request.resume(), 'end');
    socket.write(part('hello') + end);
    await whole;
    clock.advance(4 * SECOND);
    assert.doesNotMatch(text, /504/);
    clock.advance(SECOND);
    await once(socket, 'close');
    assert.match(text, /HTTP\/1\.1 504 /);
  });

  test(`an upstream that stops reading an upload with ${name} is given up`, async () => {
    const clock = new ManualClock();
    await using upstream = await startUpstream((request) => void request.pause());
    await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url, impatient)] });
    const big = 'x'.repeat(64 * 1024 * 1024);
    const socket = startUpload(gateway, fields.replace('5', String(big.length)));
    const reply = readUntil(socket, /504/);
    await once(upstream.server, 'request');
    socket.write(part(big).replace(/^\d+/, (length) => Number(length).toString(16)));
    const tick = setInterval(() => clock.advance(SECOND), 20);
    assert.match(await reply, /HTTP\/1\.1 504 /);
    clearInterval(tick);
    socket.destroy();
  });
}

test('over HTTP/2 an upload that waits for 100 Continue may take its time too', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url, impatient)] });
  const session = await http2Session(gateway);
  const stream = session.request({ ':method': 'POST', ':authority': app, expect: '100-continue' });
  await once(stream, 'continue');
  const [request] = upstream.requests;
  for (const letter of 'hello') {
    const came = once(request!, 'data');
    stream.write(letter);
    await came;
    clock.advance(4 * SECOND);
  }
  stream.end();
  const [headers] = await once(stream, 'response');
  assert.equal(headers[':status'], 200);
  session.destroy();
});

test('an upstream that says nothing to Expect: 100-continue gets the body after a wait of its own', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream(() => {});
  upstream.server.on('checkContinue', echo);
  await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url, impatient)] });
  const socket = startUpload(gateway, 'Content-Length: 5\r\nExpect: 100-continue');
  await once(upstream.server, 'checkContinue');
  const asked = once(socket, 'data');
  clock.advance(gatewayLimits.expectWaitMs);
  assert.match(String((await asked)[0]), /^HTTP\/1\.1 100 Continue\r\n\r\n$/);
  const answer = readUntil(socket);
  socket.write('hello');
  assert.match(await answer, /^HTTP\/1\.1 200 [^]*"body":"hello"/);
});

test('over the pool an upload may take its time too, and the upstream is waited for after it', async () => {
  const response_timeout_ms = 30;
  await using upstream = await startUpstream((request, response) => {
    if (request.url === '/silent') request.resume();
    else echo(request, response);
  });
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { ...impatient, response_timeout_ms })],
  });
  for (const [path, status] of [
    ['/', 200],
    ['/silent', 504],
  ] as const) {
    const socket = connect(gateway.httpPort, '127.0.0.1');
    const reply = readUntil(socket);
    const arrived = once(upstream.server, 'request');
    socket.write(`POST ${path} HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n`);
    socket.write('Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n');
    const [request] = await arrived;
    const end = Date.now() + 5 * response_timeout_ms;
    while (Date.now() < end) {
      const came = once(request, 'data');
      socket.write('1\r\nx\r\n');
      await came;
    }
    socket.write('0\r\n\r\n');
    assert.match(await reply, new RegExp(`^HTTP/1\\.1 ${status} `));
  }
});
