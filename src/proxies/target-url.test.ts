import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { normalTarget, originOf, serviceOf, targetUrl } from './target-url.ts';

const isTaken = (text: string) => targetUrl.safeParse(text).success;

test('a service is named in one spelling, with a port or without, and a path', () => {
  assert.deepEqual(serviceOf('service://blog:8080/x/y'), { name: 'blog', port: 8080 });
  assert.deepEqual(serviceOf('service://my-api'), { name: 'my-api', port: undefined });
  assert.equal(serviceOf('http://service:80/'), undefined);
  for (const text of [
    'service://blog:8080',
    'service://blog:8080/',
    'service://api/v1',
    'service://blog:65535',
  ])
    assert.ok(isTaken(text), text);
  const refused = [
    'service://Blog:80',
    'SERVICE://blog:80',
    'service://blog:080',
    'service://blog:0',
    'service://blog:65536',
    'service://blog:',
    'service://b',
    'service://-blog',
    'service://blog.example.com',
    'service://169.254.169.254:80',
    'service://[::1]:80',
    'service://user@blog:80',
    'service://blog:80?x=1',
    'service://blog:80#x',
    'service://blog:80/\\x',
    'service:blog:80',
    'service:///x',
    'service://',
  ];
  for (const text of refused) assert.ok(!isTaken(text), text);
});

test('two services, or two ports of one, are two origins; a path or a slash makes no difference', () => {
  assert.equal(originOf('service://blog:8080/x'), originOf('service://blog:8080'));
  assert.notEqual(originOf('service://blog:8080'), originOf('service://shop:8080'));
  assert.notEqual(originOf('service://blog:8080'), originOf('service://blog:8081'));
  assert.notEqual(originOf('service://blog'), originOf('http://blog'));
  assert.equal(normalTarget('service://blog:80'), normalTarget('service://blog:80/'));
  assert.notEqual(normalTarget('service://blog:80'), normalTarget('service://blog'));
});

test('whatever is taken as a target has an origin and a normal form', () => {
  const text = fc.oneof(
    fc.webUrl(),
    fc.string(),
    fc.string().map((rest) => `service://${rest}`),
    fc
      .tuple(fc.stringMatching(/^[a-z0-9-]{1,9}$/), fc.nat(70_000))
      .map(([name, port]) => `service://${name}:${port}`),
  );
  fc.assert(
    fc.property(text, (target) => {
      if (!isTaken(target)) return;
      assert.equal(normalTarget(normalTarget(target)), normalTarget(target));
      assert.equal(originOf(normalTarget(target)), originOf(target));
    }),
  );
});
