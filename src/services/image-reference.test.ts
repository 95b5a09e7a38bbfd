import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { imagePatternFault, matchesImage, parseImageReference } from './image-reference.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

test('a name is brought to the form that Docker reads in it', () => {
  const forms: [string, string][] = [
    ['nginx', 'docker.io/library/nginx:latest'],
    ['nginx:1.27', 'docker.io/library/nginx:1.27'],
    ['acme/blog', 'docker.io/acme/blog:latest'],
    ['docker.io/nginx', 'docker.io/library/nginx:latest'],
    ['index.docker.io/acme/blog', 'docker.io/acme/blog:latest'],
    ['ghcr.io/acme/blog:v1', 'ghcr.io/acme/blog:v1'],
    ['GHCR.io/acme/blog', 'ghcr.io/acme/blog:latest'],
    ['localhost/blog', 'localhost/blog:latest'],
    ['localhost:5000/blog', 'localhost:5000/blog:latest'],
    ['127.0.0.1:5000/a/b/c:x', '127.0.0.1:5000/a/b/c:x'],
    ['[::1]:5000/blog', '[::1]:5000/blog:latest'],
    [`nginx@${DIGEST}`, `docker.io/library/nginx@${DIGEST}`],
    [`nginx:1.27@${DIGEST}`, `docker.io/library/nginx@${DIGEST}`],
  ];
  for (const [text, canonical] of forms) assert.equal(parseImageReference(text)?.canonical, canonical, text);
});

test('what is no name, or could be an id, is none', () => {
  for (const text of [
    '',
    ' nginx',
    'nginx ',
    'Nginx',
    'nginx:',
    'nginx:a b',
    'nginx@sha256:short',
    `nginx@${DIGEST}@${DIGEST}`,
    `nginx@md5:${'a'.repeat(32)}`,
    'a'.repeat(64),
    DIGEST,
    '../nginx',
    'acme//blog',
    '/nginx',
    'nginx/',
    'http://registry.example/nginx',
    'user:password@registry.example/nginx',
    'registry.example:99999999/nginx',
    'nginx\n',
    'nginx\0',
    'nginx\u200b',
    'ｎginx',
    'A/b',
    '\u212ay.example/b',
    'nginx?x=1',
    'nginx#x',
    '$(id)',
    'x'.repeat(600),
  ])
    assert.equal(parseImageReference(text), undefined, JSON.stringify(text));
});

test('property: the canonical form of a canonical form is itself, and never has what an engine could read otherwise', () => {
  const component = fc.stringMatching(/^[a-z0-9]+(?:[._-][a-z0-9]+)*$/);
  const name = fc.array(component, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
  const text = fc.oneof(
    name,
    fc.string(),
    fc.tuple(name, fc.string()).map(([a, b]) => `${a}:${b}`),
  );
  fc.assert(
    fc.property(text, (given) => {
      const found = parseImageReference(given);
      if (!found) return;
      assert.match(found.canonical, /^[a-z0-9.:[\]-]+\/[a-z0-9._/-]+(?::[\w.-]+|@sha256:[0-9a-f]{64})$/);
      assert.equal(parseImageReference(found.canonical)?.canonical, found.canonical);
    }),
    { numRuns: 3000 },
  );
});

test('a pattern is for the whole name: * within a component, ** over several', () => {
  const matches = (pattern: string, text: string) => {
    assert.equal(imagePatternFault(pattern), undefined, pattern);
    const reference = parseImageReference(text);
    assert.ok(reference);
    return matchesImage(pattern, reference);
  };
  assert.ok(matches('docker.io/library/*', 'nginx'));
  assert.ok(!matches('docker.io/library/*', 'acme/nginx'));
  assert.ok(!matches('docker.io/library/*', 'evil.example/library/nginx'));
  assert.ok(!matches('docker.io/library/nginx', 'docker.io/library/nginx-evil'));
  assert.ok(matches('docker.io/library/nginx', 'nginx:1.27'));
  assert.ok(matches('ghcr.io/acme/**', 'ghcr.io/acme/a/b'));
  assert.ok(!matches('ghcr.io/acme/**', 'ghcr.io/acmeevil/a'));
  assert.ok(!matches('ghcr.io/acme/*', 'ghcr.io/acme/a/b'));
  assert.ok(matches('ghcr.io/acme/web-*', 'ghcr.io/acme/web-1'));
  assert.ok(!matches('a.example/x', 'aaexample.io/x'), 'a point is a point');
});

test('a pattern without a registry, with a tag or with what no name has is none', () => {
  for (const pattern of [
    '',
    '*',
    '**',
    'nginx',
    '*/x',
    'docker.io/',
    'docker.io/Nginx',
    'docker.io/x:1',
    'docker.io/x@y',
    'docker.io/(a+)+',
  ])
    assert.match(imagePatternFault(pattern) ?? '', /has to be a registry/, pattern);
});
