/**
 * The master key and what is done with it: private keys are sealed under it before they are stored. It is not a
 * place for credentials of callers (those are hashed, in `tokens/`). Called by the composition root only.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import type { Sealer } from '../core/sealer.ts';
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { AppError, messageOf } from '../core/errors.ts';
import { syncFolder } from '../core/folder.ts';

const KEY_BYTES = 32;
const KEY_FILE = 'master.key';
const OWNER_ONLY = 0o600;
const OTHERS = 0o077;
const { O_NOFOLLOW, O_RDONLY } = constants;
/** Longer than every spelling of a key; a file that is bigger is something else. */
const MAX_FILE_BYTES = 1024;
const HEX = /^[0-9a-fA-F]{64}$/;
const BASE64URL = /^[A-Za-z0-9_-]{43}=?$/;
const SHAPES = `it has to hold ${KEY_BYTES} bytes in base64url (43 characters) or hex (64 characters)`;

const ALGORITHM = 'aes-256-gcm';
/** @see {@link https://csrc.nist.gov/pubs/sp/800/38/d/final | NIST SP 800-38D §8.2.2}: 96-bit random nonces. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const FORMAT = 'v1';
const KEY_ID_BYTES = 6;

export interface MasterKeySource {
  dataDir: string;
  masterKey?: string | undefined;
  /** Whether something was kept in `dataDir` before, so that a key that is missing there can't be made anew. */
  dataExists: boolean;
}

/**
 * 32 bytes: from the setting, else from `data_dir/master.key`, which is made at the first start.
 * @throws AppError PRECONDITION_FAILED that says what is wrong with the file and what is allowed.
 */
export function loadMasterKey({ dataDir, masterKey, dataExists }: MasterKeySource): Buffer {
  const found = findMasterKey({ dataDir, masterKey });
  if (found) return found;
  const path = join(dataDir, KEY_FILE);
  if (dataExists)
    refuse(path, 'is missing, and what is kept here is sealed under it; restore it, or set OHP_MASTER_KEY');
  return createKeyFile(path);
}

/**
 * Undefined where there is none. `owner`: whose file it may be besides the caller's, for who only looks.
 * @throws as `loadMasterKey` does.
 */
export function findMasterKey({
  dataDir,
  masterKey,
  owner,
}: {
  dataDir: string | undefined;
  masterKey: string | undefined;
  owner?: number | undefined;
}): Buffer | undefined {
  if (masterKey !== undefined) return parseKey(masterKey) ?? refuse('the setting master_key', SHAPES);
  return dataDir === undefined ? undefined : readKeyFile(join(dataDir, KEY_FILE), owner);
}

function parseKey(text: string): Buffer | undefined {
  if (HEX.test(text)) return Buffer.from(text, 'hex');
  return BASE64URL.test(text) ? Buffer.from(text, 'base64url') : undefined;
}

function refuse(where: string, what: string, options?: { cause: unknown }): never {
  throw new AppError('PRECONDITION_FAILED', `${where}: ${what}`, options);
}

function readKeyFile(path: string, owner?: number): Buffer | undefined {
  const file = openExisting(path);
  if (file === undefined) return undefined;
  try {
    const stats = fstatSync(file);
    if (!stats.isFile()) refuse(path, `is no file; ${SHAPES}`);
    const user = process.getuid?.();
    if (user !== undefined && stats.uid !== user && stats.uid !== owner)
      refuse(
        path,
        `belongs to another user (id ${stats.uid}), who may change the master key; run: chown ${user} ${path}`,
      );
    if ((stats.mode & OTHERS) !== 0 && process.platform !== 'win32')
      refuse(
        path,
        `has mode 0${(stats.mode & 0o777).toString(8)}, so that others may read or change the master key; run: chmod 600 ${path}`,
      );
    if (stats.size > MAX_FILE_BYTES)
      refuse(path, `holds no master key: it is ${stats.size} bytes long; ${SHAPES}`);
    return parseKey(readFileSync(file, 'utf8').trim()) ?? refuse(path, `holds no master key: ${SHAPES}`);
  } finally {
    closeSync(file);
  }
}

function openExisting(path: string): number | undefined {
  try {
    return openSync(path, O_RDONLY | O_NOFOLLOW);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (code === 'ENOENT') return undefined;
    if (code === 'ELOOP') return refuse(path, 'is a symbolic link; put the file itself there', { cause });
    return refuse(path, `can't be read (${messageOf(cause)}); it has to belong to the user who starts this`, {
      cause,
    });
  }
}

/**
 * Written whole and synced under another name first, then linked: whoever looks sees no file or a finished one, and
 * of two that start at once the second one takes the key of the first.
 */
function createKeyFile(path: string): Buffer {
  const draft = `${path}.${randomBytes(KEY_ID_BYTES).toString('hex')}`;
  const file = openSync(draft, 'wx', OWNER_ONLY);
  try {
    writeSync(file, `${randomBytes(KEY_BYTES).toString('base64url')}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  try {
    linkUnlessThere(draft, path);
  } finally {
    rmSync(draft);
  }
  // Its name has to be as durable as what is sealed with it.
  syncFolder(dirname(path));
  const key = readKeyFile(path);
  if (!key) throw new Error(`${path} vanished while it was made`);
  return key;
}

function linkUnlessThere(draft: string, path: string): void {
  try {
    linkSync(draft, path);
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'EEXIST')) throw cause;
  }
}

/** A key for one purpose, so that no two uses share one. @see {@link https://www.rfc-editor.org/rfc/rfc5869 | RFC 5869} */
export function deriveKey(master: Buffer, purpose: string, bytes: number = KEY_BYTES): Buffer {
  return Buffer.from(hkdfSync('sha256', master, Buffer.alloc(0), purpose, bytes));
}

/**
 * Sealed text is `v1.<key id>.<nonce, ciphertext and tag in base64url>`. The key id is derived from the key and
 * tells a wrong key from damage; it opens nothing.
 */
export function createSealer(master: Buffer): Sealer {
  const key = deriveKey(master, 'seal');
  const keyId = deriveKey(master, 'seal key id', KEY_ID_BYTES).toString('base64url');
  return {
    seal(plain, context) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv(ALGORITHM, key, nonce).setAAD(Buffer.from(context));
      const body = Buffer.concat([nonce, cipher.update(plain, 'utf8'), cipher.final(), cipher.getAuthTag()]);
      return `${FORMAT}.${keyId}.${body.toString('base64url')}`;
    },
    open(sealed, context) {
      const [format, sealedBy, body = ''] = sealed.split('.');
      if (format !== FORMAT) throw new Error(`${context} is not sealed in a form that this program knows`);
      if (sealedBy !== keyId)
        throw new Error(
          `${context} was sealed with another master key (${sealedBy}, this one is ${keyId}): restore ${KEY_FILE} or OHP_MASTER_KEY of the time when it was stored`,
        );
      return decrypt(key, Buffer.from(body, 'base64url'), context);
    },
  };
}

function decrypt(key: Buffer, body: Buffer, context: string): string {
  try {
    const decipher = createDecipheriv(ALGORITHM, key, body.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(Buffer.from(context)).setAuthTag(body.subarray(-TAG_BYTES));
    const plain = decipher.update(body.subarray(NONCE_BYTES, -TAG_BYTES));
    return Buffer.concat([plain, decipher.final()]).toString('utf8');
  } catch (cause) {
    throw new Error(`${context} was changed since it was sealed, or belongs elsewhere`, { cause });
  }
}
