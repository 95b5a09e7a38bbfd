/**
 * Environment and file → config. Pure but for the file that `OHP_CONFIG` names. A bad setting stops the start and
 * says the key, where it stands, what was found and what is allowed; nothing is guessed and nothing is ignored.
 */
import { z } from 'zod';
import { messageOf } from '../core/errors.ts';
import { trustFault } from './acme.ts';
import { webhookSecretFault } from './alerts.ts';
import { type Config, configSchema, environmentKeys } from './config.ts';
import { ConfigError, type Locate, type Path } from './problem.ts';
import { headersFault, pairsIn, telemetryVariables } from './telemetry.ts';

const PREFIX = 'OHP_';
const FILE_VARIABLE = 'OHP_CONFIG';
/** Read by the command-line client, so they may be present where the server starts. */
const clientVariables = ['OHP_URL', 'OHP_TOKEN', 'OHP_CA_FILE'];
const HIDDEN = '[redacted]';
const MAX_SHOWN = 80;
const SECRET = /^[\x21-\x7e]{1,500}$/;

type Environment = Readonly<Record<string, string | undefined>>;

/** @throws ConfigError */
export async function loadConfig(env: Environment, readFile: (path: string) => string): Promise<Config> {
  refuseUnknownVariables(env);
  const file = await readSettings(env[FILE_VARIABLE], readFile);
  const raw = structuredClone(file.value);
  const variables = new Map<string, string>();
  for (const [variable, key] of Object.entries(environmentKeys)) {
    const text = env[variable];
    if (text === undefined || !counts(variable, env, raw)) continue;
    setKey(raw, key.split('.'), coerce(key, text));
    variables.set(key, variable);
  }
  const locate: Locate = (path) => {
    const variable = variables.get(path.join('.'));
    return variable === undefined ? file.locate(path) : `environment variable ${variable}`;
  };
  const files: Files = { locate, readFile };
  const config = check(raw, locate);
  checkDockerFiles(config, files);
  const withFiles = withAlertFiles(withAcmeFiles(withSecrets(config, locate, readFile), files), files);
  return withTelemetryFiles(withFiles, files);
}

const ENDPOINT = 'OTEL_EXPORTER_OTLP_ENDPOINT';

/** Variables that other programs read too say nothing to this one before it is told where to send. */
function counts(variable: string, env: Environment, raw: unknown): boolean {
  if (!Object.hasOwn(telemetryVariables, variable)) return true;
  return env[ENDPOINT] !== undefined || valueAt(raw, ['telemetry', 'otlp', 'endpoint']) !== undefined;
}

/** They are read again for each connection to the engine: keys are replaced while this runs. */
function checkDockerFiles({ docker }: Config, files: Files): void {
  for (const key of ['ca_file', 'cert_file', 'key_file'] as const) {
    const path = docker[key];
    if (path === undefined) continue;
    try {
      files.readFile(path);
    } catch (cause) {
      refuser(['docker', key], path, files)(`can't be read: ${messageOf(cause)}`, { cause });
    }
  }
}

/** A client secret that has a file of its own, in its place. */
function withSecrets(config: Config, locate: Locate, readFile: (path: string) => string): Config {
  const upstreams = config.oauth.upstreams.map((upstream, index) => {
    const { client_secret_file: file } = upstream;
    if (file === undefined) return upstream;
    const path = ['oauth', 'upstreams', index, 'client_secret_file'];
    const secret = readSecret(file, readFile, refuser(path, file, { locate, readFile }));
    return { ...upstream, client_secret: secret };
  });
  return { ...config, oauth: { ...config.oauth, upstreams } };
}

interface Files {
  readonly locate: Locate;
  readonly readFile: (path: string) => string;
}

/** Authorities and keys of external accounts that have files of their own, in their place. */
function withAcmeFiles(config: Config, files: Files): Config {
  const { acme } = config;
  const issuers = acme.issuers.map((issuer, index) => {
    const path = ['acme', 'issuers', index];
    const { ca_file: caFile, eab_hmac_key_file: keyFile } = issuer;
    return {
      ...issuer,
      ...(caFile !== undefined && { ca_pem: readTrust([...path, 'ca_file'], caFile, files) }),
      ...(keyFile !== undefined && {
        eab_hmac_key: readSecret(
          keyFile,
          files.readFile,
          refuser([...path, 'eab_hmac_key_file'], keyFile, files),
          'HMAC key',
        ),
      }),
    };
  });
  const trust =
    acme.ca_file === undefined ? {} : { ca_pem: readTrust(['acme', 'ca_file'], acme.ca_file, files) };
  return { ...config, acme: { ...acme, ...trust, issuers } };
}

/** Secrets of whom alerts are told by, where they have files of their own. */
function withAlertFiles(config: Config, files: Files): Config {
  return withMailFiles(withWebhookFile(config, files), files);
}

function withMailFiles(config: Config, files: Files): Config {
  const { smtp } = config.alerts;
  if (smtp === undefined) return config;
  const { password_file: passwordFile, ca_file: caFile } = smtp;
  const at = (key: string) => ['alerts', 'smtp', key];
  const read = {
    ...smtp,
    ...(passwordFile !== undefined && {
      password: readSecret(
        passwordFile,
        files.readFile,
        refuser(at('password_file'), passwordFile, files),
        'password',
      ),
    }),
    ...(caFile !== undefined && { ca_pem: readTrust(at('ca_file'), caFile, files) }),
  };
  return { ...config, alerts: { ...config.alerts, smtp: read } };
}

function withWebhookFile(config: Config, files: Files): Config {
  const { webhook_secret_file: file } = config.alerts;
  if (file === undefined) return config;
  const refuse = refuser(['alerts', 'webhook_secret_file'], file, files);
  const secret = readSecret(file, files.readFile, refuse, 'secret of the webhook');
  const fault = webhookSecretFault(secret);
  if (fault !== undefined) refuse(fault);
  return { ...config, alerts: { ...config.alerts, webhook_secret: secret } };
}

/** Headers and authorities of the collector, where they have files of their own. */
function withTelemetryFiles(config: Config, files: Files): Config {
  const { otlp } = config.telemetry;
  const { headers_file: headersFile, ca_file: caFile } = otlp;
  const path = ['telemetry', 'otlp'];
  const read = {
    ...(caFile !== undefined && { ca_pem: readTrust([...path, 'ca_file'], caFile, files) }),
    ...(headersFile !== undefined && { headers: readHeaders([...path, 'headers_file'], headersFile, files) }),
  };
  return { ...config, telemetry: { ...config.telemetry, otlp: { ...otlp, ...read } } };
}

function readHeaders(path: Path, file: string, files: Files): string {
  const refuse = refuser(path, file, files);
  let text: string;
  try {
    text = files.readFile(file);
  } catch (cause) {
    return refuse(`can't be read: ${messageOf(cause)}`, { cause });
  }
  const fault = headersFault(text);
  return fault === undefined ? text : refuse(fault);
}

type Refuse = (why: string, options?: { cause: unknown }) => never;

const refuser =
  (path: Path, file: string, { locate }: Files): Refuse =>
  (why, options) => {
    throw new ConfigError(
      [`${path.join('.')} (${locate(path)}): found ${JSON.stringify(file)}; ${why}`],
      options,
    );
  };

function readTrust(path: Path, file: string, files: Files): string {
  const refuse = refuser(path, file, files);
  let pem: string;
  try {
    pem = files.readFile(file);
  } catch (cause) {
    return refuse(`can't be read: ${messageOf(cause)}`, { cause });
  }
  const fault = trustFault(pem);
  return fault === undefined ? pem : refuse(fault);
}

function readSecret(
  path: string,
  readFile: (path: string) => string,
  refuse: Refuse,
  what = 'client secret',
): string {
  let text: string;
  try {
    text = readFile(path).trim();
  } catch (cause) {
    return refuse(`can't be read: ${messageOf(cause)}`, { cause });
  }
  return SECRET.test(text) ? text : refuse(`has to hold the ${what} and nothing else, in one line`);
}

function refuseUnknownVariables(env: Environment): void {
  const known = [...Object.keys(environmentKeys), FILE_VARIABLE, ...clientVariables];
  const unknown = Object.keys(env).filter((name) => name.startsWith(PREFIX) && !known.includes(name));
  if (unknown.length === 0) return;
  throw new ConfigError(
    unknown.map((name) => `environment variable ${name}: unknown; known are ${known.sort().join(', ')}`),
  );
}

async function readSettings(
  path: string | undefined,
  readFile: (path: string) => string,
): Promise<{ value: Record<string, unknown>; locate: Locate }> {
  if (path === undefined) return { value: {}, locate: () => 'default' };
  const text = readText(path, readFile);
  const { parseSettings } = await import('./file.ts');
  return parseSettings(path, text);
}

function readText(path: string, readFile: (path: string) => string): string {
  try {
    return readFile(path);
  } catch (cause) {
    throw new ConfigError(
      [`environment variable ${FILE_VARIABLE}: ${path} can't be read: ${messageOf(cause)}`],
      { cause },
    );
  }
}

function setKey(target: Record<string, unknown>, keys: readonly string[], value: unknown): void {
  const [first = '', ...rest] = keys;
  if (rest.length === 0) {
    target[first] = value;
    return;
  }
  const inner = target[first];
  const next = typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>) : {};
  target[first] = next;
  setKey(next, rest, value);
}

/** A variable is text; ports are the only numbers among them. What is not what it should be stays text, for the error to show. */
function coerce(key: string, text: string): unknown {
  if (key === telemetryVariables.OTEL_RESOURCE_ATTRIBUTES) return pairsIn(text) ?? text;
  return key.endsWith('_port') && /^\d{1,5}$/.test(text) ? Number(text) : text;
}

function check(raw: Record<string, unknown>, locate: Locate): Config {
  const result = configSchema.safeParse(raw);
  if (result.success) return result.data;
  const problems = result.error.issues.flatMap((issue) => problemsOf(issue, raw, locate));
  throw new ConfigError(problems, { cause: result.error });
}

function problemsOf(issue: z.core.$ZodIssue, raw: unknown, locate: Locate): string[] {
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => {
      const path = [...issue.path, key];
      return `${shownPath(path)} (${locate(path)}): unknown setting; known here are ${knownKeys(issue.path, raw).join(', ')}`;
    });
  const shown = isSecret(issue.path, raw)
    ? 'a value that is not shown'
    : shownValue(valueAt(raw, issue.path));
  return [`${shownPath(issue.path)} (${locate(issue.path)}): found ${shown}; ${issue.message}`];
}

/** A key may be a URL. */
const shownPath = (path: Path): string => path.map((key) => withoutCredentials(String(key))).join('.');

/** Of a list or a mapping only what it is: a secret may stand in it. */
function shownValue(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'a mapping';
  const shown = typeof value === 'string' ? withoutCredentials(value) : value;
  return JSON.stringify(shown)?.slice(0, MAX_SHOWN) ?? 'nothing';
}

/**
 * Who writes a password or a key into a URL that may have none is told so without it: all up to the last `@`, since
 * spaces, slashes and line breaks of a password are what makes it none; of a text without a scheme where a colon stands
 * before that, as in no address of mail.
 */
const withoutCredentials = (text: string): string =>
  text
    .replace(/^(?:([a-z][a-z\d+.-]*:\/\/)|(?=[^@]*:)).*@/is, (_, scheme = '') => `${scheme}${HIDDEN}@`)
    .replace(/([?#]).*$/s, `$1${HIDDEN}`);

const valueAt = (value: unknown, path: Path): unknown =>
  path.reduce<unknown>(
    (inner, key) => (typeof inner === 'object' && inner !== null ? Reflect.get(inner, key) : undefined),
    value,
  );

/** The mark may be on the outermost schema or inside, depending on what was said first of it. */
const isSecret = (path: Path, raw: unknown): boolean => {
  const schema = schemaAt(path, raw);
  return schema?.meta()?.secret === true || unwrap(schema)?.meta()?.secret === true;
};

function knownKeys(path: Path, raw: unknown): string[] {
  const schema = chosen(unwrap(schemaAt(path, raw)), valueAt(raw, path));
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
}

/** As it is written in `config.ts`, default and all; undefined where no setting is. */
const schemaAt = (path: Path, raw: unknown): z.ZodType | undefined =>
  path.reduce<z.ZodType | undefined>(
    (schema, key, index) => partOf(chosen(unwrap(schema), valueAt(raw, path.slice(0, index))), key),
    configSchema,
  );

/** Of several kinds of one setting the one that was written. */
function chosen(schema: z.ZodType | undefined, value: unknown): z.ZodType | undefined {
  if (!(schema instanceof z.ZodDiscriminatedUnion)) return schema;
  const { discriminator } = schema.def;
  const kind = valueAt(value, [discriminator]);
  return schema.options.find(
    (option): option is z.ZodObject =>
      option instanceof z.ZodObject && option.shape[discriminator]?.safeParse(kind).success === true,
  );
}

function partOf(schema: z.ZodType | undefined, key: PropertyKey): z.ZodType | undefined {
  const part: unknown =
    schema instanceof z.ZodObject
      ? schema.shape[String(key)]
      : schema instanceof z.ZodArray
        ? schema.element
        : schema instanceof z.ZodRecord
          ? schema.valueType
          : undefined;
  return part instanceof z.ZodType ? part : undefined;
}

function unwrap(schema: z.ZodType | undefined): z.ZodType | undefined {
  let inner: unknown = schema;
  while (inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional)
    inner = inner.unwrap();
  return inner instanceof z.ZodType ? inner : undefined;
}
