import assert from 'node:assert/strict';
import test from 'node:test';
import { registeredDomain } from './budget.ts';
import { challengesFor, chooseIssuer, type Issuer, isPublicDirectory, whyNotPublic } from './issuers.ts';

const issuer = (name: string, directoryUrl: string): Issuer => ({
  name,
  directoryUrl,
  contact: [],
  isPublic: isPublicDirectory(directoryUrl),
});
const world = issuer('world', 'https://acme-v02.api.letsencrypt.org/directory');
const office = issuer('office', 'https://ca.office.example/acme/directory');
const dns = { serves: () => true, comesFirst: () => false };

test('names that nobody can own are not asked for at a public CA, and are at a private one', () => {
  for (const name of [
    'localhost',
    'app.localhost',
    'db',
    'app.test',
    'db.internal',
    'nas.local',
    'app.example.com',
    '*.app.test',
    'x.home.arpa',
  ]) {
    assert.match(whyNotPublic(name) ?? '', /no public CA certifies/, name);
    assert.equal(chooseIssuer([name], { issuers: [world] }, dns).issuer, undefined, name);
    assert.equal(chooseIssuer([name], { issuers: [world, office] }, dns).issuer, office, name);
  }
  for (const name of ['app.acme-corp.com', 'testing.dev', 'internal.company.io', 'localhost.company.io'])
    assert.equal(chooseIssuer([name], { issuers: [world] }, dns).issuer, world, name);
});

test('the directories of CAs of the world are known, others are private', () => {
  for (const url of ['https://acme.zerossl.com/v2/DV90', 'https://dv.acme-v02.api.pki.goog/directory'])
    assert.ok(isPublicDirectory(url), url);
  for (const url of [
    'https://letsencrypt.org.evil.example/',
    'https://localhost:14000/dir',
    'https://notssl.com/',
  ])
    assert.ok(!isPublicDirectory(url), url);
});

test('a wildcard takes a provider of DNS, and the answer says so', () => {
  assert.deepEqual(challengesFor('*.company.io', undefined), []);
  assert.deepEqual(challengesFor('*.company.io', dns), ['dns-01']);
  assert.deepEqual(challengesFor('app.company.io', undefined), ['http-01', 'tls-alpn-01']);
  assert.deepEqual(challengesFor('app.company.io', dns), ['http-01', 'tls-alpn-01', 'dns-01']);
  const first = { ...dns, comesFirst: () => true };
  assert.deepEqual(challengesFor('app.company.io', first), ['dns-01', 'http-01', 'tls-alpn-01']);
  const { issuer: none, reasons } = chooseIssuer(['*.company.io'], { issuers: [world] }, undefined);
  assert.equal(none, undefined);
  assert.match(reasons[0]?.why ?? '', /by DNS-01 only, and no DNS provider is set up/);
});

test('one name that no CA takes is enough for the whole certificate', () => {
  assert.equal(chooseIssuer(['app.company.io', 'db.internal'], { issuers: [world] }, dns).issuer, undefined);
});

test('the registered domain is told by its labels', () => {
  assert.equal(registeredDomain('a.b.company.io'), 'company.io');
  assert.equal(registeredDomain('*.shop.co.uk'), 'shop.co.uk');
  assert.equal(registeredDomain('a.shop.com.au'), 'shop.com.au');
  assert.equal(registeredDomain('company.de'), 'company.de');
  // A short name that is nobody's suffix is a domain: both count against the same limit.
  assert.equal(registeredDomain('x.bmw.de'), 'bmw.de');
  assert.equal(registeredDomain('a.b.ab.io'), 'ab.io');
});
