import assert from 'node:assert/strict';
import test from 'node:test';
import { ConfigError, loadConfig } from './load.ts';

const problemsOf = (env: Record<string, string>, text = ''): readonly string[] => {
  try {
    loadConfig(env, () => text);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems;
  }
  assert.fail('was accepted');
};
const withFile = (text: string) => loadConfig({ OHP_CONFIG: 'ohp.yaml' }, () => text);

test('with no configuration every setting has its documented default', () => {
  const config = loadConfig({}, () => assert.fail('no file is read'));
  assert.deepEqual(
    [
      config.data_dir,
      config.bind,
      config.http_port,
      config.https_port,
      config.control.hosts,
      config.mcp.access,
    ],
    ['./data', '127.0.0.1', 8080, 8443, ['localhost'], 'authenticated'],
  );
});

test('a variable wins over the file', () => {
  const config = loadConfig(
    { OHP_CONFIG: 'ohp.yaml', OHP_HTTP_PORT: '9001', OHP_LOG_LEVEL: 'debug' },
    () => 'http_port: 9000\nlog:\n  retention_days: 3\n',
  );
  assert.deepEqual([config.http_port, config.log.level, config.log.retention_days], [9001, 'debug', 3]);
});

test('a bad value is reported with its key, line, what was found and what is allowed', () => {
  assert.deepEqual(problemsOf({ OHP_CONFIG: 'ohp.yaml' }, 'bind: 127.0.0.1\nmcp:\n  access: open\n'), [
    'mcp.access (ohp.yaml:3): found "open"; Invalid option: expected one of "authenticated"|"public"',
  ]);
  assert.match(
    problemsOf({ OHP_HTTP_PORT: 'eighty' })[0] ?? '',
    /^http_port \(environment variable OHP_HTTP_PORT\): found "eighty"; .*number/,
  );
  assert.match(problemsOf({ OHP_HTTPS_PORT: '70000' })[0] ?? '', /found 70000; .*65535/);
});

test('an unknown setting is refused with the list of known ones, and a mistyped boolean is not taken for true or false', () => {
  assert.match(
    problemsOf({ OHP_CONFIG: 'o.yaml' }, 'mcp:\n  acces: public\n')[0] ?? '',
    /^mcp\.acces \(o\.yaml:2\): unknown setting; known here are access, hosts/,
  );
  assert.match(
    problemsOf({ OHP_CONFIG: 'o.yaml' }, 'mcp:\n  read_only: ture\n')[0] ?? '',
    /found "ture"; .*boolean/,
  );
  assert.match(
    problemsOf({ OHP_HTTP_PROT: '1' })[0] ?? '',
    /OHP_HTTP_PROT: unknown; known are .*OHP_HTTP_PORT/,
  );
});

test('a secret is never shown in an error', () => {
  const [problem = ''] = problemsOf({ OHP_ADMIN_TOKEN: 'short-secret' });
  assert.match(problem, /admin_token/);
  assert.doesNotMatch(problem, /short-secret/);
  assert.doesNotMatch(problemsOf({ OHP_MASTER_KEY: 'my-bad-key' }).join(), /my-bad-key/);
});

test('a file that is not YAML, not a mapping or not there is an error with its place', () => {
  assert.match(problemsOf({ OHP_CONFIG: 'o.yaml' }, 'bind: [1\n')[0] ?? '', /^o\.yaml:\d+: /);
  assert.match(problemsOf({ OHP_CONFIG: 'o.yaml' }, '- a\n')[0] ?? '', /has to be a mapping/);
  assert.match(problemsOf({ OHP_CONFIG: 'o.yaml' }, 'bind: a\nbind: b\n')[0] ?? '', /o\.yaml:2: .*unique/);
  assert.throws(
    () =>
      loadConfig({ OHP_CONFIG: 'gone.yaml' }, () => {
        throw new Error('no such file');
      }),
    /gone\.yaml can't be read: no such file/,
  );
});

test('an empty file means the defaults', () => {
  assert.equal(withFile('# nothing yet\n').http_port, 8080);
});
