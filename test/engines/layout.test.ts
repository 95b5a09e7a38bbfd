/**
 * The production layout of docs/guides/container-engine.md, command by command as it stands there: two users, the broker and
 * the server. In a mount namespace of its own, so that users and folders are nowhere but there.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { startDocker, type TestEngine, withoutDocker } from '../support/docker.ts';
import { Guide } from '../support/guide.ts';
import { type Api, apiOf } from '../support/product.ts';
import { isInstalled, type Program, startProgram } from '../support/program.ts';

const root = join(import.meta.dirname, '../..');
const guide = new Guide('container-engine');
const users = guide.block('bash', 'useradd');
const settings = guide.block('yaml', 'broker.sock');
const broker = guide.block('bash', 'ohp.mjs broker');
const server = guide.block('bash', 'npm start');
const missing = ['unshare', 'useradd', 'setpriv', 'npm'].filter((program) => !isInstalled(program));
/** The guide's policy allows it. */
const IMAGE = 'library/blog:1';
const adminToken = 'administrator-token-of-the-layout-0123456789';

/** What the machine of the guide has: Docker with its socket and its group, and the program in its place. */
const machine = `
set -eu
mount --make-rprivate / && mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
mkdir /mnt/etc && cp -a /etc/. /mnt/etc && mount --bind /mnt/etc /etc
for folder in /run /srv /opt /var/lib; do mount -t tmpfs -o mode=0755 tmpfs $folder; done
mkdir /opt/ohp && mount --bind "$PROGRAM" /opt/ohp
getent group docker > /dev/null || groupadd --system docker
touch /run/docker.sock && mount --bind "$DOCKER" /run/docker.sock
chgrp docker /run/docker.sock && chmod 0660 /run/docker.sock
cd /
`;

/** Ends the script when it is otherwise. */
const only = (user: string, may: boolean, test: string): string =>
  `setpriv --reuid ${user} --regid ${user} --init-groups test ${test} ${may ? '||' : '&&'} exit 1`;

const script = `
${machine}
${users}
cat > /etc/ohp-broker/config.yaml <<SETTINGS
${settings.replace(/group: \d+/, 'group: $(getent group ohp | cut -d: -f3)')}
SETTINGS
chown root:ohp-broker /etc/ohp-broker/config.yaml && chmod 0640 /etc/ohp-broker/config.yaml
( ${broker} ) &
until [ -S /run/ohp-broker/broker.sock ]; do kill -0 $! || exit 1; sleep 0.05; done
stat -c 'socket %U %G %a' /run/ohp-broker/broker.sock
for closed in /run/docker.sock /etc/ohp-broker/config.yaml; do
  ${only('ohp', false, '-r $closed')}
  ${only('ohp-broker', true, '-r $closed')}
done
for closed in /opt/ohp /run/ohp-broker /srv/ohp-services /etc/ohp-broker; do
  ${only('ohp', false, '-w $closed')}
done
${only('ohp-broker', false, '-r /var/lib/ohp')}
${only('ohp', true, '-w /run/ohp-broker/broker.sock')}
echo apart
export OHP_HTTP_PORT=0 OHP_HTTPS_PORT=0 OHP_ADMIN_TOKEN=${adminToken}
${server}
`;

suite('the production layout', {
  skip: withoutDocker || (missing.length > 0 && `no ${missing.join(', ')}`),
}, () => {
  let docker: TestEngine;
  let program: Program;
  let printed = '';
  const said = (line: RegExp, what: string) =>
    program.until(async () => line.exec(printed) ?? undefined, what);
  before(async () => {
    docker = await startDocker();
    await docker.addImage(IMAGE);
    const outer = ['env', '-i', `PATH=${process.env.PATH}`, `PROGRAM=${root}`, `DOCKER=${docker.socket}`];
    const inside = ['unshare', '--mount', '--pid', '--fork', '--kill-child', 'bash', '-c', script];
    program = startProgram([...outer, ...inside], { cwd: '/' });
    for (const stream of [program.child.stdout, program.child.stderr])
      stream?.on('data', (chunk) => (printed += chunk));
  });
  after(async () => {
    await program[Symbol.asyncDispose]();
    await docker[Symbol.asyncDispose]();
  });

  test("its broker listens for the server alone, and neither user may use what is the other's", async () => {
    await said(/^socket ohp-broker ohp 660$/m, "the broker's socket");
    await said(/the engine answers/, 'the engine, by the broker');
    await said(/^apart$/m, 'what the users may not use');
  });

  test('its server runs what the policy of the broker allows, and nothing else', async () => {
    const url = () => said(/http:\/\/localhost:(\d+)\/mcp/, 'the server');
    // Its user has no compile cache: the start may take longer than others are waited for.
    const [, port] = await url().catch(url);
    const api: Api = apiOf({ httpPort: Number(port), adminToken });
    const create = (image: string) =>
      api('POST', '/v1/services', { name: 'blog', image, command: ['sleep', '1000'], stop_timeout_ms: 200 });
    const refused = await create('contract/other:1');
    assert.match(JSON.stringify(refused.body), /docker\.io\/contract\/other.*ghcr\.io\/example\/\*\*/s);
    const made = await create('blog:1');
    assert.equal(made.status, 201, JSON.stringify(made.body));
    const { body } = await docker.api('GET', '/containers/json');
    assert.deepEqual(
      body.map((one: { Names: string[] }) => one.Names[0]),
      ['/blog.1'],
    );
    await said(/create blog\.1: OK/, "the broker's word of it");
  });
});
