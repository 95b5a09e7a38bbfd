import assert from 'node:assert/strict';
import test, { suite, type TestContext } from 'node:test';
import { startRoute53, type Verify } from '../../../../test/support/dns-hosts.ts';
import { systemClock } from '../../../core/clock.ts';
import { AppError } from '../../../core/errors.ts';
import { providerContract } from '../provider.contract.ts';
import { createRoute53 } from './route53.ts';
import { signAws } from './sigv4.ts';

const ZONE = 'example.test';
const KEY_ID = 'AKIDEXAMPLE000000';
const SECRET = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY';
/** Of work that nobody cancels; the runner ends a test that hangs. */
const { signal } = new AbortController();
const ONE = { zone: ZONE, name: `_acme-challenge.${ZONE}`, value: 'a-value' };

/** The same signature, made from what arrived. That the signer is right is shown by the vectors below. */
const verify: Verify = ({ method, url, headers, body }) => {
  const scope = /Credential=(\w+)\/\d{8}\/us-east-1\/route53\/aws4_request, SignedHeaders=([\w;-]+), /.exec(
    headers.authorization ?? '',
  );
  if (scope?.[1] !== KEY_ID) return 'InvalidClientTokenId';
  const [, , names = ''] = scope;
  const date = String(headers['x-amz-date']);
  const now = Date.parse(date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  if (Math.abs(now - Date.now()) > 300_000) return 'SignatureDoesNotMatch';
  const signed = Object.fromEntries(
    names
      .split(';')
      .filter((name) => name !== 'host' && !name.startsWith('x-amz-'))
      .map((name) => [name, String(headers[name])]),
  );
  const expected = signAws(
    { method, url: new URL(url.pathname + url.search, `http://${headers.host}`), headers: signed, body },
    { accessKeyId: KEY_ID, secretAccessKey: SECRET },
    { region: 'us-east-1', service: 'route53', now },
  );
  return expected['authorization'] === headers.authorization ? 'signed' : 'SignatureDoesNotMatch';
};

const providerAt = (url: string, secret = SECRET) =>
  createRoute53(
    {
      provider: 'route53',
      zones: [ZONE],
      access_key_id: KEY_ID,
      secret_access_key: { env: 'SECRET' },
      region: 'us-east-1',
      url,
    },
    { clock: systemClock, fetch, readSecret: async () => secret },
  );

async function start(t: TestContext) {
  const host = await startRoute53(ZONE, verify);
  t.after(() => host[Symbol.asyncDispose]());
  return { host, provider: providerAt(host.url) };
}

providerContract('Route 53 (a stand-in)', async (t) => {
  const { host } = await start(t);
  return {
    zone: ZONE,
    open: () => providerAt(host.url),
    openUnauthorised: (canary) => providerAt(host.url, canary),
    values: async (name) => host.values(name),
    seed: async (name, value) => host.seed(name, value),
  };
});

const error = (code: string) => ({
  status: 400,
  body: `<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>Rate exceeded</Message></Error></ErrorResponse>`,
});

suite('Route 53', () => {
  test('a value that somebody adds between reading and writing is not lost', async (t) => {
    const { host, provider } = await start(t);
    host.seed(ONE.name, 'first');
    host.meanwhile(() => host.seed(ONE.name, 'added meanwhile'));
    await provider.publish(ONE, signal);
    assert.deepEqual(host.values(ONE.name), ['first', 'added meanwhile', 'a-value']);
    host.meanwhile(() => host.seed(ONE.name, 'added later'));
    await provider.withdraw(ONE, signal);
    assert.deepEqual(host.values(ONE.name), ['first', 'added meanwhile', 'added later']);
  });

  test('a set that changes each time is given up, with what Route 53 said', async (t) => {
    const { host, provider } = await start(t);
    for (let i = 0; i < 5; i += 1) host.meanwhile(() => host.seed(ONE.name, `other ${i}`));
    await assert.rejects(provider.publish(ONE, signal), /Route 53 refused \("InvalidChangeBatch /);
  });

  for (const code of ['Throttling', 'PriorRequestNotComplete'])
    test(`${code} is RATE_LIMITED with a time`, async (t) => {
      const { host, provider } = await start(t);
      host.next(error(code));
      await assert.rejects(
        provider.publish(ONE, signal),
        (thrown) =>
          thrown instanceof AppError &&
          thrown.code === 'RATE_LIMITED' &&
          thrown.details?.['retry_after_ms'] === 2000,
      );
    });

  test('a zone that is not in the account is told as that', async (t) => {
    const { provider } = await start(t);
    await assert.rejects(
      provider.publish({ ...ONE, zone: 'absent.test' }, signal),
      /no public hosted zone absent.test/,
    );
  });

  test('a record with a routing policy is left alone', async (t) => {
    const { host, provider } = await start(t);
    await provider.publish({ ...ONE, value: 'x' }, signal);
    const zoneList = `<HostedZone><Id>/hostedzone/Z1</Id><Name>${ZONE}.</Name></HostedZone>`;
    host.next({ status: 200, body: zoneList });
    host.next({
      status: 200,
      body: `<ResourceRecordSet><Name>${ONE.name}.</Name><Type>TXT</Type><SetIdentifier>eu</SetIdentifier><TTL>60</TTL></ResourceRecordSet>`,
    });
    await assert.rejects(provider.publish(ONE, signal), /has a routing policy/);
  });
});

/** The suite of AWS for signers (aws-sig-v4-test-suite). */
const vectors: [name: string, method: string, path: string, signature: string][] = [
  ['get-vanilla', 'GET', '/', '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31'],
  [
    'get-vanilla-query-order-key-case',
    'GET',
    '/?Param2=value2&Param1=value1',
    'b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500',
  ],
  ['post-vanilla', 'POST', '/', '5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b'],
];

suite('AWS Signature Version 4', () => {
  for (const [name, method, path, signature] of vectors)
    test(`vector ${name}`, () => {
      const { authorization } = signAws(
        { method, url: new URL(path, 'https://example.amazonaws.com'), headers: {}, body: '' },
        { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: SECRET },
        { region: 'us-east-1', service: 'service', now: Date.UTC(2015, 7, 30, 12, 36, 0) },
      );
      assert.equal(
        authorization,
        `AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=${signature}`,
      );
    });
});
