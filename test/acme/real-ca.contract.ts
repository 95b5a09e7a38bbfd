/** What the ACME client does with every CA. Run against each real one that can be had. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { newCertificateKey } from '../../src/certificates/acme/csr.ts';
import type { ExternalAccount } from '../../src/certificates/acme/external-account.ts';
import { AcmeProblem } from '../../src/certificates/acme/problem.ts';
import { openssl } from '../../src/certificates/openssl.fixture.ts';
import { type Applicant, call, dnsNames, newAccountKey, wait } from './applicant.ts';

export interface RealCa {
  applicant: Applicant;
  rootPem: string;
  externalAccount?: ExternalAccount;
}

/** `start` is called inside the tests: what it needs is there by then. */
export function certifies(ca: () => Promise<RealCa>): void {
  test('HTTP-01: a certificate for our name and key, which verifies under the root of the CA', async () => {
    const { applicant, rootPem, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    const { chainPem, key } = await applicant.issue(account, { identifiers: dnsNames('one.example.com') });
    const leaf = new X509Certificate(chainPem);
    assert.ok(leaf.checkPrivateKey(key));
    assert.equal(leaf.subjectAltName, 'DNS:one.example.com');
    assert.match(verified(chainPem, rootPem), /: OK/);
  });

  test('TLS-ALPN-01: the certificate that we make for the challenge is taken', async () => {
    const { applicant, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    const wanted = { identifiers: dnsNames('alpn.example.com') };
    const { chainPem } = await applicant.issue(account, wanted, { type: 'tls-alpn-01' });
    assert.equal(new X509Certificate(chainPem).subjectAltName, 'DNS:alpn.example.com');
  });

  test('DNS-01: a wildcard, whose authorization names the domain and says that it is one', async () => {
    const { applicant, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    const identifiers = dnsNames('*.wild.example.com');
    const order = await applicant.client.createOrder(account, { identifiers }, call);
    const [url = ''] = order.authorizationUrls;
    const { identifier, wildcard } = await applicant.client.getAuthorization(account, url, call);
    assert.deepEqual([identifier.value, wildcard], ['wild.example.com', true]);
    const { chainPem } = await applicant.issue(account, { identifiers }, { type: 'dns-01' });
    assert.equal(new X509Certificate(chainPem).subjectAltName, 'DNS:*.wild.example.com');
  });

  test('several names in one order, with an RSA key', async () => {
    const { applicant, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    const names = ['a.example.com', 'b.example.com', 'c.example.net'];
    const { chainPem } = await applicant.issue(
      account,
      { identifiers: dnsNames(...names) },
      { keyType: 'rsa2048' },
    );
    const leaf = new X509Certificate(chainPem);
    assert.deepEqual(leaf.subjectAltName?.split(', ').sort(), names.map((name) => `DNS:${name}`).sort());
    assert.equal(leaf.publicKey.asymmetricKeyType, 'rsa');
  });

  test('an IP address, by HTTP-01', async () => {
    const { applicant, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    const { chainPem } = await applicant.issue(account, {
      identifiers: [{ type: 'ip', value: '127.0.0.1' }],
    });
    assert.equal(new X509Certificate(chainPem).checkIP('127.0.0.1'), '127.0.0.1');
  });

  test('an IP address, by TLS-ALPN-01 under the name of its reverse', async () => {
    const { applicant, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    const wanted = { identifiers: [{ type: 'ip', value: '127.0.0.1' }] };
    const { chainPem } = await applicant.issue(account, wanted, { type: 'tls-alpn-01' });
    assert.equal(new X509Certificate(chainPem).checkIP('127.0.0.1'), '127.0.0.1');
  });

  test('an order is resumed from its URL, by a client that knows nothing else', async () => {
    const { applicant, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    const identifiers = dnsNames('resumed.example.com');
    const { url } = await applicant.client.createOrder(account, { identifiers }, call);
    const key = await newCertificateKey();
    await using second = applicant.again();
    const ready = await second.authorize(
      account,
      await second.client.getOrder(account, url, call),
      'http-01',
    );
    await second.finalize(account, ready, key);
    await using third = applicant.again();
    const { status, certificateUrl = '' } = await third.client.getOrder(account, url, call);
    assert.equal(status, 'valid');
    const { chainPem } = await third.client.download(account, { certificateUrl, key, identifiers }, call);
    assert.ok(new X509Certificate(chainPem).checkPrivateKey(key));
  });

  test('an order that fails says why in the words of the CA, and stops that order only', async () => {
    const { applicant, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    const identifiers = dnsNames('unanswered.example.com');
    const order = await applicant.client.createOrder(account, { identifiers }, call);
    const [url = ''] = order.authorizationUrls;
    const { challenges } = await applicant.client.getAuthorization(account, url, call);
    const challenge = challenges.find(({ type }) => type === 'http-01');
    await applicant.client.respond(account, challenge?.url ?? '', call);
    const failed = await applicant.untilFailed(account, url);
    assert.match(failed.detail ?? failed.raw, /./);
    assert.match(failed.type, /^urn:ietf:params:acme:error:/);
  });

  test('a challenge that failed is waited for no longer, also where the CA leaves it open to be asked again', async () => {
    const { applicant, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    const identifiers = dnsNames('left-open.example.com');
    const order = await applicant.client.createOrder(account, { identifiers }, call);
    const [url = ''] = order.authorizationUrls;
    const { challenges } = await applicant.client.getAuthorization(account, url, call);
    const answered = challenges.find(({ type }) => type === 'http-01') ?? assert.fail('no http-01');
    await applicant.client.respond(account, answered.url, call);
    const done = await applicant.client.pollAuthorization(account, url, { ...wait(), answered });
    assert.ok(['invalid', 'pending'].includes(done.status), done.status);
    assert.match(done.challenges.find((each) => each.url === answered.url)?.error?.type ?? '', /^urn:/);
  });

  test('an account is found by its key, and by no other', async () => {
    const { applicant, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    assert.equal((await applicant.client.findAccount(account.key, call))?.url, account.url);
    assert.equal(await applicant.client.findAccount(newAccountKey(), call), undefined);
    assert.equal((await applicant.client.getAccount(account, call)).status, 'valid');
  });

  test('making an account again with the same key gives the same account, and says that it is not new', async () => {
    const { applicant, externalAccount } = await ca();
    const { url, key } = await applicant.account(externalAccount);
    const wanted = { key, contact: [], termsOfServiceAgreed: true, externalAccount };
    const again = await applicant.client.createAccount(wanted, call);
    assert.deepEqual([again.url, again.isNew], [url, false]);
    const { isNew } = await applicant.client.createAccount({ ...wanted, key: newAccountKey() }, call);
    assert.equal(isNew, true);
  });

  test('the contact of an account is changed', async () => {
    const { applicant, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    const contact = ['mailto:certificates@example.com'];
    assert.deepEqual((await applicant.client.updateContact(account, contact, call)).contact, contact);
  });

  test('a deactivated account can do nothing any more, and the error says that it is the account', async () => {
    const { applicant, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    assert.equal((await applicant.client.deactivateAccount(account, call)).status, 'deactivated');
    await assert.rejects(
      applicant.client.createOrder(account, { identifiers: dnsNames('late.example.com') }, call),
      (error: unknown) => error instanceof AcmeProblem && error.consequence === 'account',
    );
  });

  test('a certificate is revoked by its account, once; again is no error', async () => {
    const { applicant, externalAccount } = await ca();
    const account = await applicant.account(externalAccount);
    const { chainPem } = await applicant.issue(account, { identifiers: dnsNames('gone.example.com') });
    const revocation = { certificatePem: chainPem, reason: 'superseded', by: account } as const;
    assert.deepEqual(await applicant.client.revoke(revocation, call), { isNew: true });
    assert.deepEqual(await applicant.client.revoke(revocation, call), { isNew: false });
  });

  for (const keyType of ['p256', 'p384', 'rsa2048'] as const)
    test(`a certificate is revoked by its own ${keyType} key, without an account`, async () => {
      const { applicant, externalAccount } = await ca();
      const account = await applicant.account(externalAccount);
      const wanted = { identifiers: dnsNames(`${keyType}.example.com`) };
      const { chainPem, key } = await applicant.issue(account, wanted, { keyType });
      const revocation = { certificatePem: chainPem, by: { certificateKey: key } };
      assert.deepEqual(await applicant.client.revoke(revocation, call), { isNew: true });
    });
}

export function verified(chainPem: string, rootPem: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'chain-'));
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  try {
    const chain = file('chain.pem', chainPem);
    return openssl('', 'verify', '-CAfile', file('root.pem', rootPem), '-untrusted', chain, chain);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
