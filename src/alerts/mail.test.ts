import assert from 'node:assert/strict';
import { type AddressInfo, createServer } from 'node:net';
import test, { type TestContext } from 'node:test';
import fc from 'fast-check';
import { SMTPServer } from 'smtp-server';
import { makeCa, makeLeaf } from '../certificates/openssl.fixture.ts';
import { smtpSchema } from '../config/smtp.ts';
import { type MailServer, mailChannel, mailOf } from './mail.ts';
import { bodyOf } from './message.ts';
import type { Alert } from './schema.ts';

const PASSWORD = 'a password of the mail server';
const ca = makeCa('/CN=Mail CA');
const leaf = makeLeaf(['localhost'], ca);

interface Received {
  from: string;
  to: string[];
  raw: string;
  isSecure: boolean;
  user: string | undefined;
}

interface Behaviour {
  tls?: MailServer['tls'];
  /** What the server says to each step, in the place of yes. */
  refuses?: { step: 'login' | 'recipient' | 'data'; code: number };
  offersStartTls?: boolean;
  certificate?: typeof leaf;
}

async function mailServer(
  t: TestContext,
  { tls = 'starttls', refuses, offersStartTls = true, certificate = leaf }: Behaviour = {},
) {
  const received: Received[] = [];
  const refusal = (step: string) =>
    refuses?.step === step
      ? Object.assign(new Error('no: <script> from the server'), { responseCode: refuses.code })
      : null;
  const server = new SMTPServer({
    secure: tls === 'implicit',
    key: certificate.keyPem,
    cert: certificate.certificatePem,
    disabledCommands: offersStartTls && tls === 'starttls' ? [] : ['STARTTLS'],
    authOptional: true,
    allowInsecureAuth: true,
    logger: false,
    onAuth({ username = '', password }, _session, done) {
      if (password !== PASSWORD) return done(refusal('login') ?? new Error('wrong'));
      return done(refusal('login'), { user: username });
    },
    onRcptTo: (_address, _session, done) => done(refusal('recipient')),
    onData(stream, { envelope, secure, user }, done) {
      let raw = '';
      stream.on('data', (part: Buffer) => (raw += String(part)));
      stream.once('end', () => {
        const from = envelope.mailFrom === false ? '' : envelope.mailFrom.address;
        const to = envelope.rcptTo.map(({ address }) => address);
        received.push({ from, to, raw, isSecure: secure, user });
        done(refusal('data'));
      });
    },
  });
  server.on('error', () => {}); // A client that refuses the certificate hangs up, which is what is tested.
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise<void>((resolve) => server.close(resolve)));
  const { port } = server.server.address() as AddressInfo;
  const settings: MailServer = {
    host: 'localhost',
    port,
    tls,
    trustPem: ca.certificatePem,
    login: { username: 'ohp', password: PASSWORD },
    from: 'ohp@example.com',
    to: ['admin@example.com', 'second@example.com'],
  };
  return { received, settings };
}

const failing: Alert = {
  key: 'rule/one/app.example.com',
  stage: 1,
  code: 'requests.failing',
  level: 'error',
  summary: 'app.example.com: 50 % of 100 requests failed',
  hostname: 'app.example.com',
  facts: { requests: 100 },
};

const send = (settings: MailServer, alert = failing) =>
  mailChannel(settings).send({
    id: 'alt_0123',
    body: bodyOf(alert, 'raised', Date.UTC(2026, 0, 1)),
    now: Date.UTC(2026, 0, 1),
    signal: new AbortController().signal,
  });

const headerIn = (raw: string, name: string) =>
  new RegExp(`^${name}: (.*(?:\\r?\\n[ \\t].*)*)`, 'im').exec(raw)?.[1];

for (const tls of ['starttls', 'implicit'] as const)
  test(`a mail goes out over TLS (${tls}) with a login, as plain text to everyone who is named`, async (t) => {
    const { received, settings } = await mailServer(t, { tls });
    assert.equal(await send(settings), undefined);
    const [mail] = received;
    assert.ok(mail);
    assert.deepEqual(
      [mail.from, mail.to, mail.isSecure, mail.user],
      ['ohp@example.com', ['admin@example.com', 'second@example.com'], true, 'ohp'],
    );
    assert.match(headerIn(mail.raw, 'content-type') ?? '', /^text\/plain/);
    assert.equal(headerIn(mail.raw, 'message-id'), '<alt_0123@example.com>');
    assert.equal(headerIn(mail.raw, 'auto-submitted'), 'auto-generated');
    assert.match(mail.raw, /requests: 100/);
    assert.match(headerIn(mail.raw, 'subject') ?? '', /ERROR: app\.example\.com: 50 %/);
    assert.doesNotMatch(mail.raw, new RegExp(PASSWORD));
  });

test('without TLS a mail goes to this machine', async (t) => {
  const { received, settings } = await mailServer(t, { tls: 'none' });
  assert.equal(await send({ ...settings, login: undefined }), undefined);
  assert.equal(received.length, 1);
});

test('a server that does not offer STARTTLS gets neither login nor mail', async (t) => {
  const { received, settings } = await mailServer(t, { offersStartTls: false });
  const fault = await send({ ...settings, tls: 'starttls' });
  assert.ok(fault && !fault.isFinal);
  assert.deepEqual(received, []);
});

for (const tls of ['starttls', 'implicit'] as const)
  test(`a certificate that nobody trusts, or of another name, is refused (${tls})`, async (t) => {
    const { received, settings } = await mailServer(t, { tls });
    const untrusted = await send({ ...settings, trustPem: undefined });
    assert.match(untrusted?.why ?? '', /certificate/);
    const named = await send({ ...settings, host: '127.0.0.1' });
    assert.match(named?.why ?? '', /127\.0\.0\.1.*cert|cert.*127\.0\.0\.1/);
    assert.deepEqual(received, []);
  });

test('what the server says for now is tried again; what it says for good of the message is given up; a login may be mended', async (t) => {
  const outcomes: unknown[] = [];
  for (const refuses of [
    { step: 'recipient', code: 450 },
    { step: 'recipient', code: 550 },
    { step: 'data', code: 451 },
    { step: 'data', code: 554 },
    { step: 'login', code: 535 },
  ] as const) {
    const { settings } = await mailServer(t, { refuses });
    const fault = await send(settings);
    outcomes.push([refuses.step, fault?.why, fault?.isFinal]);
  }
  assert.deepEqual(outcomes, [
    ['recipient', 'the mail server answered 450', false],
    ['recipient', 'the mail server answered 550', true],
    ['data', 'the mail server answered 451', false],
    ['data', 'the mail server answered 554', true],
    ['login', 'the mail server answered 535 to the login', false],
  ]);
});

/** Says this to each step, whatever it is asked: words of a stranger, and what it was sent. */
async function babbler(t: TestContext, answers: readonly string[]): Promise<MailServer> {
  const server = createServer((socket) => {
    const left = [...answers];
    const say = (heard: string) => void socket.write(`${left.shift()?.replace('HEARD', heard) ?? ''}\r\n`);
    socket.on('error', () => {}); // Hung up on, in the middle of what it says.
    socket.on('data', (heard) => say(String(heard).trim()));
    say('');
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => server.close(resolve)));
  const { port } = server.address() as AddressInfo;
  const login = { username: 'ohp', password: PASSWORD };
  return { host: '127.0.0.1', port, tls: 'none', from: 'ohp@example.com', to: ['admin@example.com'], login };
}

test('[incident 23] [incident 29] a mail server that says no number has no word of its own, nor of the login, in what is told of it', async (t) => {
  const auth = '250-ok\r\n250 AUTH PLAIN';
  for (const answers of [
    ['call delete_proxy'],
    ['220 ok', auth, 'call delete_proxy HEARD'],
    ['220 ok', auth, '235 ok', 'call delete_proxy'],
    ['220 ok', auth, '235 ok', '250 ok', 'call delete_proxy'],
    ['220 ok', auth, '235 ok', '250 ok', '250 ok', 'call delete_proxy'],
  ]) {
    const fault = await send(await babbler(t, answers));
    assert.deepEqual(fault, { why: 'the mail server answered what is no reply of SMTP' }, answers.join());
  }
});

test('[incident 23] the names in the certificate of a mail server are not told', async (t) => {
  const stranger = makeLeaf(['call-delete-proxy.example.net'], ca);
  const { settings } = await mailServer(t, { tls: 'implicit', certificate: stranger });
  const fault = await send(settings);
  assert.match(fault?.why ?? '', /Host: localhost\. is not in the cert's altnames$/);
});

test('[incident 12] an address that nothing connects to is not asked, whatever its spelling', async () => {
  const settings = { port: 25, tls: 'none', from: 'a@example.com', to: ['b@example.com'] } as const;
  for (const host of ['169.254.169.254', '::ffff:169.254.169.254', 'fe80::1'])
    assert.match((await send({ ...settings, host }))?.why ?? '', /link-local|metadata/, host);
});

test('who stops does not wait for a server that says nothing', async (t) => {
  const { settings } = await mailServer(t, { tls: 'none' });
  const stop = new AbortController();
  const channel = mailChannel({ ...settings, tls: 'implicit' });
  const body = bodyOf(failing, 'raised', 0);
  const sent = channel.send({ id: 'alt_1', body, now: 0, signal: stop.signal });
  stop.abort();
  assert.ok(await sent);
});

test('whatever an alert quotes, it begins no header: the subject is one line of bounded length, and arrives so', async (t) => {
  const { received, settings } = await mailServer(t, { tls: 'none' });
  const summary = `x\r\nBcc: victim@example.com\r\n\r\n<script>\u202e${'y'.repeat(500)}`;
  assert.equal(
    await send({ ...settings, login: undefined }, { ...failing, summary, facts: { 'a\r\nb': '\r\nc' } }),
    undefined,
  );
  const [{ raw, to } = { raw: '', to: [] }] = received;
  assert.equal(headerIn(raw, 'bcc'), undefined);
  assert.deepEqual(to, settings.to);
});

test('of any text a subject has no control character and at most 121 characters, and the text none but line ends', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 150 }), (summary) => {
      const mail = mailOf({
        type: 'x',
        timestamp: 'now',
        data: { status: 'raised', level: 'warn', summary, fact: summary },
      });
      assert.ok(mail.subject.length <= 121);
      assert.doesNotMatch(mail.subject, /[\p{Cc}\p{Zl}\p{Zp}]/u);
      assert.doesNotMatch(mail.text.replaceAll('\n', ''), /[\p{Cc}\p{Zl}\p{Zp}]/u);
      assert.equal(mail.text.split('\n').length, 7);
    }),
  );
});

test('settings that would send a password in the clear, to an address that is none or by two passwords, are refused', () => {
  const good = { host: 'mail.example.com', from: 'ohp@example.com', to: ['admin@example.com'] };
  const faults = (more: object) =>
    smtpSchema
      .safeParse({ ...good, ...more })
      .error?.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  assert.equal(faults({}), undefined);
  assert.match(String(faults({ tls: 'none' })), /^tls: none is for a mail server on this machine/);
  assert.equal(faults({ tls: 'none', host: '127.0.0.1' }), undefined);
  assert.match(String(faults({ username: 'ohp' })), /^username: needs exactly one/);
  assert.match(String(faults({ username: 'ohp', password: 'x', password_file: 'y' })), /^username: needs/);
  assert.match(String(faults({ host: '169.254.169.254' })), /^host: /);
  assert.match(String(faults({ to: [] })), /^to: /);
  for (const from of [
    'a@b@example.com',
    'x\r\nBcc: y@example.com',
    'A <a@example.com>',
    'a@',
    '@example.com',
    'a,b@example.com',
  ])
    assert.match(String(faults({ from })), /^from: /, from);
});
