import assert from 'node:assert/strict';
import test, { suite } from 'node:test';
import { AppError } from '../core/errors.ts';
import { createAllowList } from './allow-list.ts';
import { parseArgv } from './argv.ts';

const builtIn = createAllowList();

suite('the built-in rules allow what a diagnosis needs', () => {
  const commands = [
    'uptime',
    'df -h',
    'df -hT /',
    'free -m',
    'ps -e',
    'ps -eo pid,comm,rss --sort=-rss',
    'uname -a',
    'ss -tln',
    'ss -tulnp',
    'openssl version',
    'openssl s_client -connect example.com:443',
    'openssl s_client -servername a-b.example.com -connect 192.0.2.7:8443 -showcerts -brief',
    'openssl s_client -connect localhost:8443 -alpn h2,http/1.1 -tls1_3',
    'dig example.com',
    'dig @192.0.2.53 _acme-challenge.example.com TXT +short',
    'dig -x 2001:db8::1 +trace',
  ];
  for (const command of commands) test(command, () => builtIn.require(parseArgv(command)));
});

suite('the built-in rules refuse what reads, writes, runs, ends or reveals more', () => {
  const commands = [
    'cat /etc/passwd',
    'sh -c id',
    'env',
    'uptime extra',
    'df --output=source /etc',
    'df /root',
    'free -s 1',
    'ps aux',
    'ps eww',
    'ps -eo args',
    'ps -eo pid,environ',
    'ps -eo pid=X',
    'date -s 2000-01-01',
    'docker run busybox',
    "docker ps --format '{{json .}}'",
    'docker ps --no-trunc',
    'docker exec x sh',
    'docker -H tcp://192.0.2.1:2375 ps',
    'ss -K',
    'ss -D /tmp/x',
    'ss -F /etc/passwd',
    'openssl enc -in /etc/passwd',
    'openssl s_client -connect example.com:443 -sess_out /tmp/x',
    'openssl s_client -connect example.com:443 -keylogfile /tmp/x',
    'openssl s_client -connect example.com:443 -CAfile /etc/passwd',
    'openssl s_client -connect example.com:443 -proxy 192.0.2.1:80',
    'openssl s_client -connect 169.254.169.254:80',
    'openssl s_client -connect 2852039166:80',
    'openssl s_client -connect 0xa9fea9fe:80',
    'openssl s_client -connect 0251.0376.0251.0376:80',
    'openssl s_client -connect Metadata.Google.Internal:80',
    'openssl s_client -connect example.com:99999x',
    'dig -f /etc/passwd',
    'dig -k /etc/passwd example.com',
    'dig @169.254.169.254 example.com',
    'dig @2852039166 example.com',
    'dig @100.100.100.200 example.com',
    'dig +tls-ca=/etc/passwd example.com',
  ];
  for (const command of commands)
    test(command, () =>
      assert.throws(
        () => builtIn.require(parseArgv(command)),
        (error) =>
          error instanceof AppError && error.code === 'FORBIDDEN' && /; allowed: /.test(error.message),
      ),
    );
});

test('a refusal says what is allowed: of the program when it is known, else of all', () => {
  assert.throws(() => builtIn.require(['uname', '--help']), {
    message: 'command: uname is not allowed with these arguments; allowed: uname [-a]',
  });
  assert.throws(() => builtIn.require(['reboot']), /reboot is not allowed; allowed: uptime \[-p\] \| date/);
  assert.throws(
    () => createAllowList([]).require(['uptime']),
    /allowed: nothing \(commands.allow is empty\)/,
  );
});

test('rules of a setting replace the built-in ones, and each pattern has to match a whole argument', () => {
  const list = createAllowList([
    { program: 'systemctl', arguments: ['status', 'a|b'] },
    { program: 'journalctl', arguments: [], rest: '-n|[0-9]+' },
  ]);
  list.require(['systemctl', 'status', 'a']);
  list.require(['journalctl', '-n', '100']);
  for (const argv of [
    ['uptime'],
    ['systemctl', 'status'],
    ['systemctl', 'status', 'ab'],
    ['systemctl', 'status', 'a', 'a'],
    ['systemctl', 'status', 'xa'],
    ['journalctl', '-n', '1\n'],
    ['journalctl', '9'.repeat(501)],
  ] as [string, ...string[]][])
    assert.throws(() => list.require(argv), /not allowed/, argv.join(' '));
});

test('a rule that can not be used stops the start with its place', () => {
  const create = (rule: Partial<{ program: string; arguments: string[]; rest: string }>) => () =>
    createAllowList([{ program: 'df', arguments: [], ...rule }]);
  assert.throws(
    create({ arguments: ['('] }),
    /commands\.allow\[0\]\.arguments\[0\]: "\(" has to be a regular expr/,
  );
  assert.throws(create({ rest: 'a)|(b' }), /commands\.allow\[0\]\.rest: "a\)\|\(b" has to be/);
  assert.throws(
    create({ program: 'docker' }),
    /commands\.allow\[0\]\.program: "docker" is answered by operations/,
  );
  assert.throws(
    create({ program: '/bin/df' }),
    /commands\.allow\[0\]\.program: "\/bin\/df" has to be a name/,
  );
});
