/** glewlwyd, an OpenID provider that is not of our making: Debian's program on loopback, with one person and one client. */
import { spawn, spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from './eventually.ts';
import { freePort } from './free-port.ts';
import { CLIENT_ID, CLIENT_SECRET } from './providers.ts';

const CONFIG = '/etc/glewlwyd/glewlwyd.conf';
const WEBAPP = '/usr/share/glewlwyd/webapp';
const TABLES = '/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3';
const KEY_BITS = 2048;

/** Why tests with it are skipped here; false: they are not. */
export const withoutGlewlwyd: string | false = ['/usr/bin/glewlwyd', '/usr/bin/sqlite3', TABLES].every(
  (path) => existsSync(path),
)
  ? false
  : 'no glewlwyd and sqlite3 on this machine';

export const ADA = {
  username: 'ada',
  password: 'password-of-ada-there',
  name: 'Ada Lovelace',
  email: 'ada@example.com',
};

export interface Glewlwyd extends AsyncDisposable {
  readonly issuer: string;
}

export async function startGlewlwyd(redirectUri: string): Promise<Glewlwyd> {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-glewlwyd-'));
  const port = await freePort();
  const origin = `http://localhost:${port}`;
  writeConfiguration(folder, { port, origin });
  const child = spawn('glewlwyd', ['-c', join(folder, 'glewlwyd.conf')], { stdio: 'ignore' });
  const gone = once(child, 'exit');
  const provider = {
    issuer: `${origin}/api/oidc`,
    async [Symbol.asyncDispose]() {
      child.kill();
      await gone;
      rmSync(folder, { recursive: true });
    },
  };
  try {
    await prepare(origin, { issuer: provider.issuer, redirectUri });
  } catch (cause) {
    await provider[Symbol.asyncDispose]();
    throw cause;
  }
  return provider;
}

function writeConfiguration(folder: string, { port, origin }: { port: number; origin: string }): void {
  const database = join(folder, 'state.sqlite');
  const made = spawnSync('sqlite3', [database], { input: readFileSync(TABLES) });
  if (made.status !== 0) throw new Error(`sqlite3: ${made.stderr.toString()}`);
  const pages = join(folder, 'webapp');
  cpSync(WEBAPP, pages, { recursive: true, dereference: true });
  // Debian has it in a folder of that name.
  rmSync(join(pages, 'config.json'), { recursive: true });
  writeFileSync(join(pages, 'config.json'), readFileSync(join(WEBAPP, 'config.json/config.json')));
  const lines = readFileSync(CONFIG, 'utf8')
    .replace(/^@include.*$/gm, '')
    .replace(/^(?:port|external_url|log_mode|bind_address|static_files_path)\s*=.*$/gm, '');
  const own = [
    `port=${port}`,
    'bind_address="127.0.0.1"',
    `external_url="${origin}"`,
    'log_mode="console"',
    `static_files_path="${pages}/"`,
    `database = { type = "sqlite3"; path = "${database}"; };`,
  ];
  writeFileSync(join(folder, 'glewlwyd.conf'), `${lines}\n${own.join('\n')}\n`);
}

/** By its own API, as its administrator. */
async function prepare(
  origin: string,
  { issuer, redirectUri }: { issuer: string; redirectUri: string },
): Promise<void> {
  const post = (path: string, body: object, cookie = '') =>
    fetch(`${origin}/api/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', cookie },
      body: JSON.stringify(body),
    });
  const admin = await eventually(
    () => post('auth/', { username: 'admin', password: 'password' }).catch(() => undefined),
    'glewlwyd',
  );
  const [cookie = ''] = (admin.headers.get('set-cookie') ?? '').split(';');
  for (const [path, body] of [
    ['mod/plugin/', pluginOf(issuer)],
    ['user/', { ...ADA, enabled: true, scope: ['openid', 'g_profile'] }],
    ['client/', clientOf(redirectUri)],
  ] as const) {
    const { status } = await post(path, body, cookie);
    if (status !== 200) throw new Error(`glewlwyd: ${path} answered ${status}`);
  }
}

const clientOf = (redirectUri: string) => ({
  client_id: CLIENT_ID,
  name: 'OAuth HTTPS Proxy',
  client_secret: CLIENT_SECRET,
  confidential: true,
  enabled: true,
  redirect_uri: [redirectUri],
  authorization_type: ['code'],
  scope: ['openid'],
  token_endpoint_auth_method: ['client_secret_post'],
});

function pluginOf(issuer: string) {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', {
    modulusLength: KEY_BITS,
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const on = [
    'auth-type-code-enabled',
    'auth-type-id-token-enabled',
    'pkce-allowed',
    'refresh-token-rolling',
  ];
  const off = ['token', 'none', 'password', 'client', 'device', 'refresh'].map(
    (name) => `auth-type-${name}-enabled`,
  );
  const parameters = {
    iss: issuer,
    'jwt-type': 'rsa',
    'jwt-key-size': '256',
    key: privateKey,
    cert: publicKey,
    'access-token-duration': 3600,
    'refresh-token-duration': 3600,
    'code-duration': 600,
    'subject-type': 'public',
    'name-claim': 'mandatory',
    'email-claim': 'mandatory',
    'pkce-method-plain-allowed': false,
    'allow-non-oidc': false,
    ...Object.fromEntries([...on.map((name) => [name, true]), ...off.map((name) => [name, false])]),
    // It knows nothing of verified addresses, so a property stands for it.
    claims: [
      {
        name: 'email_verified',
        'user-property': 'name',
        type: 'boolean',
        'boolean-value-true': ADA.name,
        'boolean-value-false': '-',
        mandatory: true,
      },
    ],
  };
  return { module: 'oidc', name: 'oidc', display_name: 'OpenID Connect', parameters };
}
