/** The ACME client against Pebble: strict, refusing a fifth of all nonces, with external accounts and alternate roots. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import { newCertificateKey, writeCsr } from '../../src/certificates/acme/csr.ts';
import { AcmeProblem } from '../../src/certificates/acme/problem.ts';
import { DAY } from '../../src/core/clock.ts';
import { type Pebble, startPebble, withoutPebble } from '../support/pebble.ts';
import { Applicant, call, dnsNames, newAccountKey, type Responder, startResponder } from './applicant.ts';
import { certifies, verified } from './real-ca.contract.ts';

const HMAC_KEY = Buffer.from('a key of thirty-two bytes or more.').toString('base64url');
const externalAccount = { keyId: 'customer-1', hmacKey: HMAC_KEY };

suite('with Pebble', { skip: withoutPebble }, () => {
  let responder: Responder;
  let pebble: Pebble;
  let applicant: Applicant;

  before(async () => {
    responder = await startResponder();
    pebble = await startPebble({
      ...responder,
      externalAccounts: { 'customer-1': HMAC_KEY },
      env: { PEBBLE_ALTERNATE_ROOTS: '2', PEBBLE_CHAIN_LENGTH: '2' },
    });
    applicant = new Applicant(pebble, responder);
  });

  after(async () => {
    await applicant[Symbol.asyncDispose]();
    await pebble[Symbol.asyncDispose]();
    await responder[Symbol.asyncDispose]();
  });

  certifies(async () => ({ applicant, rootPem: await pebble.root(0), externalAccount }));

  // Caddy has no rollover.
  test('after a rollover the new key is the account, and the old one is nobody', async () => {
    const account = await applicant.account(externalAccount);
    const newKey = newAccountKey();
    const renewed = await applicant.client.changeKey(account, newKey, call);
    assert.equal(renewed.url, account.url);
    assert.equal((await applicant.client.findAccount(newKey, call))?.url, account.url);
    assert.equal(await applicant.client.findAccount(account.key, call), undefined);
    assert.equal((await applicant.client.getAccount(renewed, call)).status, 'valid');
  });

  test('the directory says that an external account is required, and its terms', async () => {
    const { meta } = await applicant.client.directory(call);
    assert.equal(meta.externalAccountRequired, true);
    assert.match(meta.termsOfService ?? '', /^data:text/);
  });

  for (const [title, binding] of [
    ['without an external account', undefined],
    ['with a wrong HMAC key', { ...externalAccount, hmacKey: Buffer.alloc(32, 7).toString('base64url') }],
    ['with the id of no customer', { ...externalAccount, keyId: 'nobody' }],
  ] as const)
    test(`an account is refused ${title}, and the error says that it is the account`, async () => {
      await assert.rejects(
        applicant.account(binding),
        (error: unknown) => error instanceof AcmeProblem && error.consequence === 'account',
      );
    });

  test('an account whose owner does not agree to the terms is refused', async () => {
    const wanted = { key: newAccountKey(), contact: [], termsOfServiceAgreed: false, externalAccount };
    await assert.rejects(
      applicant.client.createAccount(wanted, call),
      (error: unknown) => error instanceof AcmeProblem && error.type !== undefined,
    );
  });

  test('of alternate chains the one that leads to the preferred root is taken', async () => {
    const account = await applicant.account(externalAccount);
    const identifiers = dnsNames('chains.example.com');
    const [first, second] = [await pebble.root(0), await pebble.root(1)];
    const preferredIssuer = new X509Certificate(second).subject.replace('CN=', '');
    const { chainPem, key, order } = await applicant.issue(account, { identifiers }, { preferredIssuer });
    assert.match(verified(chainPem, second), /: OK/);
    assert.throws(() => verified(chainPem, first));
    const certificateUrl = order.certificateUrl ?? '';
    const wanted = { certificateUrl, key, identifiers, preferredIssuer: 'No such root' };
    const fallback = await applicant.client.download(account, wanted, call);
    assert.equal(fallback.isPreferred, false);
    assert.match(verified(fallback.chainPem, first), /: OK/);
  });

  test('a certificate that is not for our key, or not for our names, is not given out', async () => {
    const account = await applicant.account(externalAccount);
    const identifiers = dnsNames('ours.example.com');
    const { key, order } = await applicant.issue(account, { identifiers });
    const certificateUrl = order.certificateUrl ?? '';
    const strange = { code: 'wrong_certificate', consequence: 'order' };
    await assert.rejects(
      applicant.client.download(account, { certificateUrl, key: newAccountKey(), identifiers }, call),
      { ...strange, message: /for another key/ },
    );
    const others = [...identifiers, { type: 'ip', value: '192.0.2.7' }, ...dnsNames('other.example.com')];
    await assert.rejects(
      applicant.client.download(account, { certificateUrl, key, identifiers: others }, call),
      { ...strange, message: /not for other\.example\.com, 192\.0\.2\.7/ },
    );
  });

  test('a revoked certificate is revoked at the CA, for the reason that we gave', async () => {
    const account = await applicant.account(externalAccount);
    const { chainPem } = await applicant.issue(account, { identifiers: dnsNames('stolen.example.com') });
    const { serialNumber } = new X509Certificate(chainPem);
    await applicant.client.revoke({ certificatePem: chainPem, reason: 'keyCompromise', by: account }, call);
    const { Status, Reason } = await pebble.statusOf(serialNumber);
    assert.deepEqual([Status, Reason], ['Revoked', 1]);
  });

  test('an account lists its orders', async () => {
    const account = await applicant.account(externalAccount);
    const identifiers = dnsNames('listed.example.com');
    const { url } = await applicant.client.createOrder(account, { identifiers }, call);
    const { ordersUrl = '' } = await applicant.client.getAccount(account, call);
    assert.deepEqual(await applicant.client.listOrders(account, ordersUrl, call), [url]);
  });

  test('an authorization that is given up is no authorization any more', async () => {
    const account = await applicant.account(externalAccount);
    const order = await applicant.client.createOrder(
      account,
      { identifiers: dnsNames('up.example.com') },
      call,
    );
    const [url = ''] = order.authorizationUrls;
    const { status } = await applicant.client.deactivateAuthorization(account, url, call);
    assert.equal(status, 'deactivated');
  });

  test('the times that are asked for are in the certificate', async () => {
    const account = await applicant.account(externalAccount);
    const notBefore = Math.floor(Date.now() / DAY) * DAY;
    const notAfter = notBefore + 3 * DAY;
    const identifiers = dnsNames('brief.example.com');
    const { chainPem, order } = await applicant.issue(account, { identifiers, notBefore, notAfter });
    const { validFromDate, validToDate } = new X509Certificate(chainPem);
    assert.deepEqual([validFromDate.getTime(), validToDate.getTime()], [notBefore, notAfter]);
    assert.equal(Date.parse(order.notAfter ?? ''), notAfter);
  });

  test('a request for other names than were ordered is refused, and the order can still be finished', async () => {
    const account = await applicant.account(externalAccount);
    const identifiers = dnsNames('asked.example.com');
    const order = await applicant.client.createOrder(account, { identifiers }, call);
    const ready = await applicant.authorize(account, order, 'http-01');
    const key = await newCertificateKey();
    const csr = writeCsr(dnsNames('other.example.com'), key);
    await assert.rejects(
      applicant.client.finalize(account, { ...ready, csr }, call),
      (error: unknown) => error instanceof AcmeProblem && error.consequence === 'order',
    );
    assert.equal((await applicant.finalize(account, ready, key)).status, 'valid');
  });
});
