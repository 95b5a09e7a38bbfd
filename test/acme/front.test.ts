/** The ACME client on a bad day, and with what Pebble lacks: renewal information, profiles, `replaces`. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import type { Consequence, FaultCode } from '../../src/certificates/acme/fault.ts';
import { certificateId } from '../../src/certificates/acme/certificate-id.ts';
import { openAcmeClient } from '../../src/certificates/acme/client.ts';
import { AcmeFault } from '../../src/certificates/acme/fault.ts';
import { AcmeProblem } from '../../src/certificates/acme/problem.ts';
import { MAX_RETRY_AFTER_MS } from '../../src/certificates/acme/retry-after.ts';
import { DIRECTORY_AGE_MS, MAX_NONCE_TRIES } from '../../src/certificates/acme/session.ts';
import { MAX_REPLY_BYTES, REQUEST_MS } from '../../src/certificates/acme/transport.ts';
import { DAY, HOUR, ManualClock, MINUTE, SECOND } from '../../src/core/clock.ts';
import { type AcmeFront, type Fault, PROFILES, startAcmeFront, strangeNonce } from '../support/acme-front.ts';
import { eventually } from '../support/eventually.ts';
import { type Pebble, startPebble, withoutPebble } from '../support/pebble.ts';
import {
  Applicant,
  call,
  dnsNames,
  newAccountKey,
  type Responder,
  startResponder,
  wait,
} from './applicant.ts';

suite('with Pebble behind a front', { skip: withoutPebble }, () => {
  let responder: Responder;
  let pebble: Pebble;
  let front: AcmeFront;
  let applicant: Applicant;

  before(async () => {
    responder = await startResponder();
    pebble = await startPebble({ ...responder, env: { PEBBLE_WFE_NONCEREJECT: '0' } });
    front = await startAcmeFront(pebble);
    applicant = new Applicant(front, responder);
  });

  after(async () => {
    await applicant[Symbol.asyncDispose]();
    await front[Symbol.asyncDispose]();
    await pebble[Symbol.asyncDispose]();
    await responder[Symbol.asyncDispose]();
  });

  const newOrder = (name: string) => ({ identifiers: dnsNames(name) });
  const seenOf = (resource: string) => front.requests.filter((each) => each.resource === resource);

  test('the directory is asked for once an hour', async () => {
    const clock = new ManualClock();
    const { directoryUrl, trustPem } = front;
    await using client = openAcmeClient({ directoryUrl, extraTrustPem: trustPem, clock });
    const before = seenOf('directory').length;
    const { meta } = await client.directory(call);
    assert.deepEqual(meta.profiles, PROFILES);
    clock.advance(DIRECTORY_AGE_MS - 1);
    await client.directory(call);
    assert.equal(seenOf('directory').length, before + 1);
    clock.advance(1);
    await client.directory(call);
    assert.equal(seenOf('directory').length, before + 2);
  });

  test('a request is signed with the key until there is an account, and by its URL from then on', async () => {
    const account = await applicant.account();
    await applicant.client.createOrder(account, newOrder('signed.example.com'), call);
    const [first, second] = [seenOf('newAccount').at(-1), seenOf('newOrder').at(-1)];
    assert.deepEqual(Object.keys(first?.header ?? {}).sort(), ['alg', 'jwk', 'nonce', 'url']);
    assert.deepEqual(Object.keys(second?.header ?? {}).sort(), ['alg', 'kid', 'nonce', 'url']);
    assert.deepEqual([first?.header?.alg, second?.header?.kid], ['ES256', account.url]);
    assert.deepEqual(Object.keys(first?.header?.jwk ?? {}).sort(), ['crv', 'kty', 'x', 'y']);
  });

  test('a nonce that the CA does not know is no fault: the request is repeated with the one of its error', async () => {
    const account = await applicant.account();
    front.fail('account', { kind: 'headers', headers: { 'replay-nonce': strangeNonce('one') } });
    await applicant.client.getAccount(account, call);
    const before = front.requests.length;
    await applicant.client.getAccount(account, call);
    assert.deepEqual(
      front.requests.slice(before).map(({ resource }) => resource),
      ['account', 'account'],
    );
  });

  test('a CA that refuses every nonce is given up after ten tries, to be asked again later', async () => {
    const account = await applicant.account();
    const before = seenOf('newOrder').length;
    front.fail('newOrder', { kind: 'problem', type: 'badNonce', status: 400 }, MAX_NONCE_TRIES);
    await assert.rejects(applicant.client.createOrder(account, newOrder('nonce.example.com'), call), {
      name: 'AcmeProblem',
      type: 'badNonce',
      consequence: 'retry_later',
    });
    assert.equal(seenOf('newOrder').length, before + MAX_NONCE_TRIES);
  });

  test('a nonce in a form that is none is not used', async () => {
    const account = await applicant.account();
    front.fail('account', { kind: 'headers', headers: { 'replay-nonce': 'not a nonce!' } });
    await applicant.client.getAccount(account, call);
    await applicant.client.getAccount(account, call);
    const used = seenOf('account').map(({ header }) => header?.nonce);
    assert.equal(used.includes('not a nonce!'), false);
  });

  const consequences: readonly [type: string, status: number, Consequence][] = [
    ['rateLimited', 429, 'retry_later'],
    ['serverInternal', 500, 'retry_later'],
    ['malformed', 400, 'order'],
    ['rejectedIdentifier', 400, 'order'],
    ['caa', 403, 'order'],
    ['unsupportedIdentifier', 400, 'order'],
    ['orderNotReady', 403, 'order'],
    ['accountDoesNotExist', 400, 'account'],
    ['unauthorized', 403, 'account'],
    ['externalAccountRequired', 403, 'account'],
    ['invalidProfile', 400, 'account'],
    ['userActionRequired', 403, 'person'],
    ['neverHeardOf', 503, 'retry_later'],
    ['neverHeardOf', 403, 'account'],
    ['neverHeardOf', 400, 'order'],
  ];
  for (const [type, status, consequence] of consequences)
    test(`the problem ${type} with ${status} stops: ${consequence}`, async () => {
      const account = await applicant.account();
      front.fail('newOrder', { kind: 'problem', type, status, detail: `because of ${type}` });
      await assert.rejects(applicant.client.createOrder(account, newOrder('no.example.com'), call), {
        type,
        consequence,
        message: `the CA refused: because of ${type} (${type})`,
      });
    });

  test('a rate limit says when to come back: in seconds or as a date, and never later than in a week', async () => {
    const account = await applicant.account();
    const askedFor = async (value: string): Promise<number> => {
      const headers = { 'retry-after': value };
      front.fail('newOrder', { kind: 'problem', type: 'rateLimited', status: 429, headers });
      const refused = await applicant.client.createOrder(account, newOrder('often.example.com'), call).then(
        () => assert.fail('it was refused'),
        (error: unknown) => error,
      );
      assert.ok(refused instanceof AcmeProblem && refused.consequence === 'retry_later');
      return refused.retryAfterMs ?? -1;
    };
    assert.equal(await askedFor('3600'), HOUR);
    assert.equal(await askedFor('99999999'), MAX_RETRY_AFTER_MS);
    const asDate = await askedFor(new Date(Date.now() + 2 * HOUR).toUTCString());
    assert.ok(asDate > HOUR && asDate <= 2 * HOUR, String(asDate));
    assert.equal(await askedFor('soon'), -1);
  });

  test('a problem is kept whole: each name with its own, where a person has to go, and the new terms', async () => {
    const account = await applicant.account();
    front.fail('newOrder', {
      kind: 'problem',
      type: 'userActionRequired',
      status: 403,
      headers: { link: '<https://ca.test/terms>;rel="terms-of-service", <https://ca.test/dir>;rel="index"' },
      more: {
        instance: 'https://ca.test/agree?account=7',
        subproblems: [
          {
            type: 'urn:ietf:params:acme:error:caa',
            detail: 'CAA forbids it',
            identifier: { type: 'dns', value: 'no.example.com' },
          },
        ],
      },
    });
    const refused = await applicant.client.createOrder(account, newOrder('no.example.com'), call).then(
      () => assert.fail('it was refused'),
      (error: unknown) => error,
    );
    assert.ok(refused instanceof AcmeProblem);
    assert.equal(refused.problem.instance, 'https://ca.test/agree?account=7');
    assert.equal(refused.termsOfService, 'https://ca.test/terms');
    assert.equal(refused.problem.subproblems[0]?.identifier?.value, 'no.example.com');
    assert.match(refused.message, /no\.example\.com: CAA forbids it/);
    assert.match(refused.problem.raw, /"subproblems"/);
  });

  test('a problem that is nested deeper than can be written again is a problem all the same', async () => {
    const account = await applicant.account();
    const deep = '['.repeat(MAX_REPLY_BYTES / 3) + ']'.repeat(MAX_REPLY_BYTES / 3);
    const body = `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"enough","more":${deep}}`;
    front.fail('newOrder', answer(429, body, { 'content-type': 'application/problem+json' }));
    await assert.rejects(applicant.client.createOrder(account, newOrder('deep.example.com'), call), {
      name: 'AcmeProblem',
      consequence: 'retry_later',
      message: /enough/,
    });
  });

  const html = { 'content-type': 'text/html' };
  const json = { 'content-type': 'application/json' };
  const faults: readonly [title: string, Fault, FaultCode, Consequence, RegExp][] = [
    ['a page in place of JSON', answer(200, '<h1>Hi</h1>', html), 'content_type', 'network', /text\/html/],
    ['what is no JSON', answer(201, '{"status"', json), 'malformed_reply', 'network', /no JSON/],
    ['JSON that is no order', answer(201, '{"status":"new"}', json), 'malformed_reply', 'network', /status/],
    ['no Location', { kind: 'headers', headers: { location: '' } }, 'malformed_reply', 'network', /Location/],
    [
      'a redirect, which is not followed',
      answer(302, '', { location: 'https://169.254.169.254/latest' }),
      'redirected',
      'network',
      /redirects to https:\/\/169/,
    ],
    ['a page with 503', answer(503, 'later', html), 'http_status', 'retry_later', /answered 503/],
    ['a page with 404', answer(404, 'no', html), 'http_status', 'network', /answered 404/],
    [
      'more than there can be',
      answer(201, ' '.repeat(MAX_REPLY_BYTES + 1), json),
      'too_large',
      'network',
      /more than/,
    ],
    ['no answer', { kind: 'hang_up' }, 'unreachable', 'network', /hung up/],
    ['half an answer', { kind: 'truncated' }, 'unreachable', 'network', /hung up/],
  ];
  function answer(status: number, body: string, headers: Record<string, string>): Fault {
    return { kind: 'answer', status, body, headers };
  }
  for (const [title, fault, code, consequence, message] of faults)
    test(`a CA that gives ${title}: ${code}, and the request is not repeated`, async () => {
      const account = await applicant.account();
      front.fail('newOrder', fault);
      const before = seenOf('newOrder').length;
      await assert.rejects(applicant.client.createOrder(account, newOrder('odd.example.com'), call), {
        name: 'AcmeFault',
        code,
        consequence,
        message,
      });
      assert.equal(seenOf('newOrder').length, before + 1);
    });

  test('a CA that does not answer in time: timeout, by our clock', async () => {
    const clock = new ManualClock(Date.now());
    const { promise, resolve } = Promise.withResolvers<void>();
    const { directoryUrl, trustPem } = front;
    await using client = openAcmeClient({ directoryUrl, extraTrustPem: trustPem, clock });
    const before = front.requests.length;
    front.fail('directory', { kind: 'slow', until: promise });
    const late = assert.rejects(client.directory(call), { code: 'timeout', consequence: 'network' });
    await eventually(async () => front.requests.length > before || undefined, 'the request');
    clock.advance(REQUEST_MS);
    await late;
    resolve();
  });

  test('a call that is cancelled ends at once with the reason of its signal', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const account = await applicant.account();
    front.fail('account', { kind: 'slow', until: promise });
    const stop = new AbortController();
    const before = seenOf('account').length;
    const cancelled = applicant.client.getAccount(account, stop);
    await eventually(async () => seenOf('account').length > before || undefined, 'the request');
    const reason = new Error('not wanted any more');
    stop.abort(reason);
    await assert.rejects(cancelled, (error: unknown) => error === reason);
    await assert.rejects(applicant.client.getAccount(account, stop), (error: unknown) => error === reason);
    resolve();
  });

  test('the certificate of a CA that nobody trusts: tls, and the setting that would', async () => {
    await using client = openAcmeClient({ directoryUrl: front.directoryUrl, clock: new ManualClock() });
    await assert.rejects(client.directory(call), {
      code: 'tls',
      consequence: 'network',
      message: /OHP_ACME_CA_FILE/,
    });
  });

  test('a directory that leads away from HTTPS, or to link-local addresses, is not followed', async () => {
    for (const [url, code] of [
      ['http://localhost:14000/nonce', 'malformed_reply'],
      ['https://169.254.169.254/latest/meta-data', 'unsafe_url'],
      ['https://[fe80::1]/', 'unsafe_url'],
      ['https://[::ffff:169.254.169.254]/', 'unsafe_url'],
      ['https://user:secret@localhost/', 'unsafe_url'],
    ] as const) {
      await using client = applicant.again().client;
      front.fail('directory', { kind: 'members', members: { newNonce: url } });
      await assert.rejects(client.findAccount(newAccountKey(), call), (error: unknown) => {
        assert.ok(error instanceof AcmeFault, url);
        assert.equal(error.code, code, url);
        return true;
      });
    }
  });

  test('a lost reply: the account of a key, an order in a list and a revocation are found to have happened', async () => {
    const key = newAccountKey();
    const wanted = { key, contact: [], termsOfServiceAgreed: true };
    front.fail('newAccount', { kind: 'lost_reply' });
    await assert.rejects(applicant.client.createAccount(wanted, call), { code: 'unreachable' });
    const { url, ordersUrl = '' } =
      (await applicant.client.findAccount(key, call)) ?? assert.fail('not found');
    const account = { url, key };
    front.fail('newOrder', { kind: 'lost_reply' });
    await assert.rejects(applicant.client.createOrder(account, newOrder('lost.example.com'), call), {
      code: 'unreachable',
    });
    const [orderUrl = ''] = await applicant.client.listOrders(account, ordersUrl, call);
    const order = await applicant.client.getOrder(account, orderUrl, call);
    assert.equal(order.identifiers[0]?.value, 'lost.example.com');
    const { chainPem } = await applicant.issue(account, newOrder('lost-revocation.example.com'));
    const revocation = { certificatePem: chainPem, by: account };
    front.fail('revokeCert', { kind: 'lost_reply' });
    await assert.rejects(applicant.client.revoke(revocation, call), { code: 'unreachable' });
    assert.deepEqual(await applicant.client.revoke(revocation, call), { isNew: false });
  });

  test('a lost reply to a rollover: the new key tells that it took effect', async () => {
    const account = await applicant.account();
    const newKey = newAccountKey();
    front.fail('keyChange', { kind: 'lost_reply' });
    await assert.rejects(applicant.client.changeKey(account, newKey, call), { code: 'unreachable' });
    assert.equal((await applicant.client.findAccount(newKey, call))?.url, account.url);
  });

  test('a lost reply to a finalization: the order tells that it is under way, and ends with the certificate', async () => {
    const account = await applicant.account();
    const order = await applicant.client.createOrder(account, newOrder('final.example.com'), call);
    const ready = await applicant.authorize(account, order, 'http-01');
    front.fail('finalize', { kind: 'lost_reply' });
    const { key, csr } = await applicant.request(ready);
    await assert.rejects(applicant.client.finalize(account, { ...ready, csr }, call), {
      code: 'unreachable',
    });
    const valid = await applicant.client.pollOrder(account, order.url, { ...wait(), while: ['processing'] });
    const { identifiers, certificateUrl = '' } = valid;
    const { chainPem } = await applicant.client.download(account, { certificateUrl, key, identifiers }, call);
    assert.ok(new X509Certificate(chainPem).checkPrivateKey(key));
  });

  test('a chain that is something else than certificates, or of another media type, is not given out', async () => {
    const account = await applicant.account();
    const { order, key, chainPem } = await applicant.issue(account, newOrder('odd-chain.example.com'));
    const { identifiers, certificateUrl = '' } = order;
    const fetchAgain = (body: string, type = 'application/pem-certificate-chain') => {
      front.fail('certificate', answer(200, body, { 'content-type': type }));
      return applicant.client.download(account, { certificateUrl, key, identifiers }, call);
    };
    assert.equal((await fetchAgain(chainPem)).chainPem, chainPem);
    const [leaf = '', issuer = ''] = chainPem.split(/(?<=-----END CERTIFICATE-----\n)/);
    for (const [text, message] of [
      ['', /no certificate/],
      [`see below\n${chainPem}`, /something else/],
      [chainPem.replaceAll('CERTIFICATE', 'PRIVATE KEY'), /something else/],
      [leaf + leaf, /not signed by the one after it/],
      [issuer + leaf, /another key/],
      [chainPem.repeat(6), /more than 10/],
      ['-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', /can't be read/],
    ] as const)
      await assert.rejects(fetchAgain(text), { code: 'wrong_certificate', message });
    await assert.rejects(fetchAgain(chainPem, 'text/plain'), { code: 'content_type' });
  });

  test('a certificate that has expired is not given out', async () => {
    const account = await applicant.account();
    const { order, key } = await applicant.issue(account, newOrder('expired.example.com'));
    const { identifiers, certificateUrl = '' } = order;
    await using later = new Applicant(front, responder, new ManualClock(Date.now() + 100 * 365 * DAY));
    const wanted = { certificateUrl, key, identifiers };
    await assert.rejects(later.client.download(account, wanted, call), {
      code: 'wrong_certificate',
      message: /expired/,
    });
  });

  test('polling waits as long as the CA says, within bounds, and ends by the deadline of the caller', async () => {
    const clock = new ManualClock(Date.now());
    const waits: number[] = [];
    const watched = {
      now: () => clock.now(),
      every: clock.every.bind(clock),
      after(ms: number, run: () => void) {
        const isPause = ms !== REQUEST_MS;
        if (isPause) waits.push(ms);
        const timer = clock.after(ms, run);
        if (isPause) setImmediate(() => clock.advance(ms));
        return timer;
      },
    };
    await using slow = new Applicant(front, responder, watched);
    const account = await slow.account();
    const { url } = await slow.client.createOrder(account, newOrder('polled.example.com'), call);
    for (const value of ['0', '5', '86400', 'soon', new Date(clock.now() + 2 * DAY).toUTCString()])
      front.fail('order', { kind: 'headers', headers: { 'retry-after': value } });
    const deadline = clock.now() + 2 * HOUR + 5 * MINUTE;
    await assert.rejects(slow.client.pollOrder(account, url, { ...call, deadline, while: ['pending'] }), {
      code: 'deadline',
      consequence: 'retry_later',
    });
    assert.deepEqual(waits.slice(0, 6), [SECOND, 5 * SECOND, HOUR, 2 * SECOND, HOUR, 8 * SECOND]);
    assert.ok(clock.now() <= deadline);
  });

  test('a pause between two questions ends at once when the call is cancelled', async () => {
    const clock = new ManualClock(Date.now());
    await using still = new Applicant(front, responder, clock);
    const account = await still.account();
    const { url } = await still.client.createOrder(account, newOrder('paused.example.com'), call);
    const stop = new AbortController();
    const before = seenOf('order').length;
    const waiting = still.client.pollOrder(account, url, {
      signal: stop.signal,
      deadline: clock.now() + HOUR,
      while: ['pending'],
    });
    await eventually(async () => seenOf('order').length > before || undefined, 'the question');
    stop.abort(new Error('enough'));
    await assert.rejects(waiting, /enough/);
  });

  test('an order for a profile is for that profile; one that the CA does not have stops the setting', async () => {
    const account = await applicant.account();
    const wanted = { ...newOrder('profiled.example.com'), profile: 'shortlived' };
    const { profile, url } = await applicant.client.createOrder(account, wanted, call);
    assert.equal(profile, 'shortlived');
    assert.equal((await applicant.client.getOrder(account, url, call)).profile, 'shortlived');
    await assert.rejects(applicant.client.createOrder(account, { ...wanted, profile: 'eternal' }, call), {
      type: 'invalidProfile',
      consequence: 'account',
    });
  });

  test('a renewal says what it replaces, once', async () => {
    const account = await applicant.account();
    const { chainPem } = await applicant.issue(account, newOrder('renewed.example.com'));
    const replaces = certificateId(chainPem);
    const renewal = { ...newOrder('renewed.example.com'), replaces };
    const { order } = await applicant.issue(account, renewal);
    assert.equal(order.replaces, replaces);
    await assert.rejects(applicant.client.createOrder(account, renewal, call), {
      type: 'alreadyReplaced',
      consequence: 'order',
    });
  });

  test('renewal information: the window, why, and when to ask again, between a minute and a day', async () => {
    const account = await applicant.account();
    const { chainPem } = await applicant.issue(account, newOrder('informed.example.com'));
    const window = { start: '2027-01-02T03:04:05Z', end: '2027-01-03T04:05:06.5+01:00' };
    const asked = (retryAfter?: string) => {
      front.renewal = { window, explanationURL: 'https://ca.test/why', ...(retryAfter && { retryAfter }) };
      return applicant.client.renewalInfo(chainPem, call);
    };
    assert.deepEqual(await asked('7200'), {
      start: Date.UTC(2027, 0, 2, 3, 4, 5),
      end: Date.UTC(2027, 0, 3, 3, 5, 6, 500),
      explanationUrl: 'https://ca.test/why',
      checkAgainMs: 2 * HOUR,
    });
    assert.deepEqual(
      [
        (await asked('1'))?.checkAgainMs,
        (await asked('999999'))?.checkAgainMs,
        (await asked())?.checkAgainMs,
      ],
      [MINUTE, DAY, 6 * HOUR],
    );
    assert.equal(seenOf('renewalInfo').at(-1)?.path, `/renewal-info/${certificateId(chainPem)}`);
    front.renewal = { window: { start: window.end, end: window.start } };
    await assert.rejects(applicant.client.renewalInfo(chainPem, call), { code: 'malformed_reply' });
    front.renewal = undefined;
    await assert.rejects(applicant.client.renewalInfo(chainPem, call), { name: 'AcmeProblem' });
  });

  test('a CA without renewal information, or a certificate that names no authority, has none', async () => {
    await using plain = new Applicant(pebble, responder);
    const account = await plain.account();
    const { chainPem } = await plain.issue(account, newOrder('uninformed.example.com'));
    assert.equal(await plain.client.renewalInfo(chainPem, call), undefined);
    const root = await pebble.root(0);
    assert.equal(await applicant.client.renewalInfo(root, call), undefined);
  });
});
