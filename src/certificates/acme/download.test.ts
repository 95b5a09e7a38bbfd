import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import test from 'node:test';
import { ManualClock } from '../../core/clock.ts';
import { makeCa, makeLeaf } from '../openssl.fixture.ts';
import { download } from './download.ts';
import { AcmeFault } from './fault.ts';
import type { Session } from './session.ts';
import type { Reply } from './transport.ts';

const ca = makeCa('/CN=Usual Root');
const leaf = makeLeaf(['a.test'], ca);
const clock = new ManualClock(Date.now());
const key = createPrivateKey(leaf.keyPem);
const account = { url: 'https://ca.test/acct/1', key };
const first = 'https://ca.test/cert/1';

/** `alternates`: what each answers. */
const sessionWith = (alternates: readonly (() => Partial<Reply>)[]): Session => ({
  clock,
  directory: () => assert.fail('not asked'),
  get: () => assert.fail('not asked'),
  close: async () => undefined,
  post: async ({ url }) => ({
    url,
    status: 200,
    contentType: 'application/pem-certificate-chain',
    text: leaf.certificatePem,
    nonce: undefined,
    location: undefined,
    links: alternates.map((_, index) => ({ url: `${first}/${index}`, relations: ['alternate'] })),
    retryAfterMs: undefined,
    ...(url !== first && alternates[Number(url.split('/').at(-1))]?.()),
  }),
});

const get = (alternates: readonly (() => Partial<Reply>)[], preferredIssuer: string) =>
  download(
    sessionWith(alternates),
    account,
    { certificateUrl: first, key, identifiers: [{ type: 'dns', value: 'a.test' }], preferredIssuer },
    { signal: new AbortController().signal },
  );

const broken: (() => Partial<Reply>)[] = [
  () => {
    throw new AcmeFault('http_status', '404');
  },
  () => ({ contentType: 'text/html' }),
  () => ({ text: 'no certificate' }),
];

test('other chains that can not be had cost nobody the certificate that is there', async () => {
  assert.deepEqual(await get(broken, 'No such root'), { chainPem: leaf.certificatePem, isPreferred: false });
});

test('behind a chain that can not be had, the preferred one is found', async () => {
  const cross = makeCa('/CN=Other Root');
  const signer = { ...makeCa('/CN=Usual Root', cross, ca.keyPem) };
  const good = () => ({ text: leaf.certificatePem + signer.certificatePem });
  const { chainPem, isPreferred } = await get([...broken, good], 'Other Root');
  assert.deepEqual([chainPem, isPreferred], [leaf.certificatePem + signer.certificatePem, true]);
});

test('whoever ends the call ends it, at another chain as well', async () => {
  const stopped = new Error('stopped');
  const stop = () => {
    throw stopped;
  };
  await assert.rejects(get([stop], 'No such root'), stopped);
});
