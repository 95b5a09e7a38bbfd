/**
 * The internal CA: makes its root at the first start and signs a leaf for every hostname that has no certificate from
 * elsewhere. Clients trust it by `data_dir/ca.pem`. It revokes nothing: its leaves are short-lived and stay in this
 * process. Called by the service of this folder only.
 */
import { X509Certificate } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { type Clock, DAY, HOUR } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import { newId } from '../core/ids.ts';
import type { Log } from '../core/record.ts';
import type { Sealer } from '../core/sealer.ts';
import type { Database } from '../store/database.ts';
import { fromPkcs8, newKeys, type Signer, toPkcs8, writeLeaf, writeRoot } from './x509.ts';

const ROOT_VALID_MS = 3650 * DAY;
export const LEAF_VALID_MS = 90 * DAY;
/** For clients whose clocks are behind. */
const BACKDATED_MS = HOUR;
const PUBLIC_FILE = 0o644;
const ROOT_NAME = 'OAuth HTTPS Proxy internal CA';
const LOOPBACK_ADDRESSES = [Buffer.from([127, 0, 0, 1]), Buffer.from('1'.padStart(32, '0'), 'hex')];

export interface AuthorityOptions {
  database: Database;
  sealer: Sealer;
  clock: Clock;
  log: Log;
  /** Where the root is written for people to trust. */
  caFile: string;
}

export interface Authority {
  /** A fresh key and a leaf for it, for one hostname or `*.parent`. */
  issue(name: string): Promise<{ chainPem: string; keyPem: string }>;
}

/** @throws AppError PRECONDITION_FAILED when the root's key does not open with this master key. */
export async function openAuthority(options: AuthorityOptions): Promise<Authority> {
  const { signer, rootPem } = (await findRoot(options)) ?? (await createRoot(options));
  publish(options.caFile, rootPem);
  const lastMoment = new X509Certificate(rootPem).validToDate.getTime();
  return {
    async issue(name) {
      const { privateKey, publicKey } = await newKeys();
      const now = options.clock.now();
      const addresses = name === 'localhost' ? LOOPBACK_ADDRESSES : [];
      const chainPem = writeLeaf(
        signer,
        { hostnames: [name], addresses, publicKey },
        { notBefore: now - BACKDATED_MS, notAfter: Math.min(now + LEAF_VALID_MS, lastMoment) },
      );
      return { chainPem, keyPem: toPkcs8(privateKey) };
    },
  };
}

interface Root {
  signer: Signer;
  rootPem: string;
}

/** The newest root that will outlive what it signs now. */
async function findRoot({ database, sealer, clock }: AuthorityOptions): Promise<Root | undefined> {
  const row = await database.read
    .selectFrom('authorities')
    .selectAll()
    .orderBy('created_at', 'desc')
    .limit(1)
    .executeTakeFirst();
  if (!row) return undefined;
  const certificate = new X509Certificate(row.chain_pem);
  if (certificate.validToDate.getTime() - clock.now() < LEAF_VALID_MS) return undefined;
  const signer: Signer = {
    commonName: certificate.subject.replace(/^CN=/, ''),
    privateKey: fromPkcs8(openKey(sealer, row)),
    publicKey: certificate.publicKey,
  };
  return { signer, rootPem: row.chain_pem };
}

/** Which key was given is for who starts this to mend, so that they get the reason and no stack. */
function openKey(sealer: Sealer, { id, key_sealed }: { id: string; key_sealed: string }): string {
  try {
    return sealer.open(key_sealed, contextOf(id));
  } catch (cause) {
    throw new AppError('PRECONDITION_FAILED', messageOf(cause), { cause });
  }
}

async function createRoot({ database, sealer, clock, log }: AuthorityOptions): Promise<Root> {
  const id = newId('ath');
  const now = clock.now();
  // Roots of different installations must not share a name: a client that trusts both could not tell them apart.
  const signer: Signer = { ...(await newKeys()), commonName: `${ROOT_NAME} ${id.slice(-8)}` };
  const rootPem = writeRoot(signer, { notBefore: now - BACKDATED_MS, notAfter: now + ROOT_VALID_MS });
  await database.change({}, async (tx) => {
    await tx
      .insertInto('authorities')
      .values({
        id,
        chain_pem: rootPem,
        key_sealed: sealer.seal(toPkcs8(signer.privateKey), contextOf(id)),
        created_at: now,
      })
      .execute();
  });
  log.write({
    time: now,
    kind: 'tls',
    level: 'info',
    component: 'certificates',
    message: `made the internal CA "${signer.commonName}"; clients have to trust ca.pem`,
  });
  return { signer, rootPem };
}

const contextOf = (id: string): string => `authority:${id}`;

function publish(path: string, pem: string): void {
  if (existsSync(path) && readFileSync(path, 'utf8') === pem) return;
  const draft = `${path}.new`;
  writeFileSync(draft, pem);
  chmodSync(draft, PUBLIC_FILE);
  renameSync(draft, path);
}
