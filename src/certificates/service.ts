/**
 * Certificates: what is imported, what the internal CA issues and renews, and which one a handshake gets. A private
 * key leaves this folder only inside a `SecureContext`. It terminates no TLS (the gateway does). Called by the
 * operations of this folder, and by the composition root for `select`, `ensure` and `soonestExpiry`.
 */
import type { SecureContext } from 'node:tls';
import { HOUR, type Timer } from '../core/clock.ts';
import { decodeCursor, encodeCursor, pageOf, requireVersion } from '../core/collection.ts';
import { AppError, messageOf } from '../core/errors.ts';
import type { EventName, Events } from '../core/events.ts';
import { coversHostname, wildcardOver } from '../core/hostname.ts';
import { limits } from '../core/limits.ts';
import type { OperationContext } from '../core/operation.ts';
import { mayTouch, type Principal, requireHostname } from '../core/principal.ts';
import { type AuthorityOptions, openAuthority } from './authority.ts';
import { Catalog, type Entry, entryOf } from './catalog.ts';
import type { TrustPem } from './client-trust.ts';
import { thresholdOf } from './expiry.ts';
import { parseImport } from './import.ts';
import { InternalCertificates } from './internal.ts';
import type { KeepCertificate } from './shelf.ts';
import { type Certificate, type ListedCertificate, listedCertificateSchema } from './schema.ts';
import { type OnDemandPort, Selector } from './select.ts';
import { type Material, Vault } from './vault.ts';

const RENEWAL_EVERY_MS = HOUR;
const MAX_CERTIFICATES = 50_000;
const MAX_USED_BY = 100;
/** After any of these another certificate may be the right one. */
const news = ['proxy.changed', 'certificate.ready', 'certificate.removed'] as const satisfies EventName[];

export interface CertificateServiceOptions extends AuthorityOptions {
  events: Events;
  /** Canonical, at least one; the first one is for clients that name no host. */
  controlHosts: readonly string[];
  /** The hostname or `*.parent` of the enabled proxy that serves this hostname; undefined when none does. */
  servedName: (hostname: string) => string | undefined;
  /** Hostnames and `*.parent` of every enabled proxy. */
  servedHostnames: () => Iterable<string>;
  onDemand?: OnDemandPort | undefined;
}

interface Parts {
  catalog: Catalog;
  vault: Vault;
  internal: InternalCertificates;
}

type Caller = Pick<OperationContext, 'principal' | 'idempotency'>;

/** @throws AppError PRECONDITION_FAILED when the internal CA's key does not open with this master key. */
export async function openCertificates(options: CertificateServiceOptions): Promise<CertificateService> {
  const catalog = new Catalog();
  const vault = new Vault(options);
  const authority = await openAuthority(options);
  const stored = await vault.load((id, cause) =>
    report(options, `certificate ${id} can't be read and is not used: ${messageOf(cause)}`),
  );
  for (const certificate of stored) catalog.put(entryOf(certificate));
  const internal = new InternalCertificates({ ...options, authority, catalog, vault });
  return new CertificateService(options, { catalog, vault, internal });
}

export class CertificateService implements AsyncDisposable {
  readonly #options: CertificateServiceOptions;
  readonly #parts: Parts;
  readonly #selector: Selector;
  readonly #controlHosts: ReadonlySet<string>;
  readonly #renewal: Timer;
  readonly #unsubscribe: (() => void)[];
  readonly #background = new Set<Promise<void>>();

  constructor(options: CertificateServiceOptions, parts: Parts) {
    const { clock, log, events, controlHosts } = options;
    this.#options = options;
    this.#parts = parts;
    this.#controlHosts = new Set(controlHosts);
    this.#selector = new Selector({
      catalog: parts.catalog,
      clock,
      log,
      fallback: controlHosts[0] ?? '',
      servedAs: (hostname) => this.#servedAs(hostname),
      internal: (name) => parts.internal.current(name),
      open: ({ id }, trust) => parts.vault.open(id, trust),
      onDemand: options.onDemand,
    });
    this.#renewal = clock.every(RENEWAL_EVERY_MS, () => this.#run(this.renewDue()));
    this.#unsubscribe = [
      ...news.map((name) => events.on(name, () => this.#selector.clear())),
      events.on('proxy.changed', ({ hostnames }) => this.#run(this.ensure(hostnames))),
    ];
  }

  /**
   * For the SNI callback. Undefined when the name is not served; no name means the first control host. Rejects when
   * the right certificate can't be opened: then the handshake has to fail. `clients`: the CAs whose certificates
   * clients have to show; also rejects when those can't be used.
   */
  readonly select = (
    servername: string | undefined,
    clients?: TrustPem,
  ): Promise<SecureContext | undefined> => this.#selector.select(servername, clients);

  /** Issues ahead what the internal CA has to supply for those of the hostnames that are served. */
  async ensure(hostnames: Iterable<string>): Promise<void> {
    for (const hostname of hostnames) {
      const name = this.#servedAs(hostname);
      if (name !== undefined && !this.#parts.catalog.public(hostname, this.#options.clock.now()))
        await this.#parts.internal.current(name);
    }
  }

  /** Resolves when nothing is being issued beside who asked for it. */
  async settled(): Promise<void> {
    await Promise.all(this.#background);
    await this.#parts.internal.settle();
  }

  /** What the next handshake for it gets; undefined when it is not served, or has none yet. */
  inUse(hostname: string): Entry | undefined {
    const name = this.#servedAs(hostname);
    if (name === undefined) return undefined;
    return this.serving(hostname) ?? this.#parts.catalog.internal(name);
  }

  /** The control host, hostname or `*.parent` under which it is served. */
  servedAs(hostname: string): string | undefined {
    return this.#servedAs(hostname);
  }

  entry(id: string): Entry | undefined {
    return this.#parts.catalog.get(id);
  }

  /** @throws AppError NOT_FOUND for what the principal may not see */
  async get(id: string, principal: Principal): Promise<ListedCertificate> {
    const certificate = (await this.#parts.vault.find(this.#options.database.read, [id])).get(id);
    const names = certificate ? shownNames(principal, certificate.names) : [];
    if (!certificate || names.length === 0) throw notFound(id);
    const used = (this.#usedBy().get(id) ?? []).filter((hostname) => mayTouch(principal, hostname));
    return this.#listed(certificate, names, used);
  }

  /** For changing it: all of its names have to be the principal's. @throws AppError NOT_FOUND, FORBIDDEN */
  async own(id: string, principal: Principal): Promise<Entry> {
    return this.#find(id, principal);
  }

  /** From elsewhere and valid now: what the hostname is served with. */
  serving(hostname: string): Entry | undefined {
    return this.#parts.catalog.public(hostname, this.#options.clock.now());
  }

  /** Certificates that are served now and have to go on, with the hostnames. */
  *used(): Generator<readonly [Entry, readonly string[]]> {
    const { onDemand } = this.#options;
    for (const [id, all] of this.#usedBy()) {
      const entry = this.#parts.catalog.get(id);
      const hostnames = all.filter((hostname) => onDemand?.isLeft(hostname) !== true);
      if (entry && hostnames.length > 0) yield [entry, hostnames];
    }
  }

  entries(): Iterable<Entry> {
    return this.#parts.catalog.all();
  }

  chainOf(id: string): Promise<string | undefined> {
    return this.#parts.vault.chainOf(id);
  }

  /** With the private key. @throws AppError NOT_FOUND */
  async export(id: string): Promise<Material & { certificate: Certificate }> {
    const { vault } = this.#parts;
    const certificate = (await vault.find(this.#options.database.read, [id])).get(id);
    const material = await vault.export(id);
    if (!certificate || !material) throw notFound(id);
    return { certificate, ...material };
  }

  /** One that a CA gave, in the transaction of its order; served from the next handshake on. */
  readonly keep: KeepCertificate = async (tx, afterCommit, material) => {
    const certificate = await this.#parts.vault.insert(tx, 'acme', material);
    afterCommit(() => this.#put(certificate));
    return certificate;
  };

  /** With a reason it is not served from this change on, while its CA is asked to revoke it; without one it is again. */
  setRevoking(id: string, reason: Certificate['revoking']): Promise<Certificate> {
    const { catalog, vault } = this.#parts;
    return this.#options.database.change({}, async (tx, afterCommit) => {
      const before = (await vault.find(tx, [id])).get(id);
      if (!before) throw notFound(id);
      const certificate: Certificate = { ...before, revoking: reason, version: before.version + 1 };
      await vault.put(tx, certificate);
      afterCommit(() => {
        const entry = catalog.get(id);
        if (entry) this.#forget(entry);
        if (reason === undefined) this.#put(certificate);
        else catalog.put(entryOf(certificate));
      });
      return certificate;
    });
  }

  /** Those that are over or revoked. */
  async drop(entries: readonly Entry[]): Promise<void> {
    const { catalog, vault } = this.#parts;
    for (const entry of entries)
      await this.#options.database.change({}, async (tx, afterCommit) => {
        if (catalog.get(entry.id) !== entry) return;
        await vault.remove(tx, entry.id);
        afterCommit(() => this.#forget(entry));
      });
  }

  /** Soonest to expire first. */
  async list(
    query: { limit?: number | undefined; cursor?: string | undefined; hostname?: string | undefined },
    { principal }: Pick<Caller, 'principal'>,
  ): Promise<{ certificates: ListedCertificate[]; next_cursor?: string }> {
    const found = this.#matching(query, principal).slice(0, (query.limit ?? limits.pageSizeDefault) + 1);
    const documents = await this.#parts.vault.find(
      this.#options.database.read,
      found.map(({ id }) => id),
    );
    const usedBy = this.#usedBy();
    // None of one that was removed since it was found.
    const shown = ({ id }: Entry): ListedCertificate[] => {
      const certificate = documents.get(id);
      if (!certificate) return [];
      const used = (usedBy.get(id) ?? []).filter((hostname) => mayTouch(principal, hostname));
      const names = shownNames(principal, certificate.names);
      return [this.#listed(certificate, names, used)];
    };
    const cursorOf = (last: Entry) => encodeCursor('certificates', [last.notAfter, last.id]);
    const { items, ...more } = pageOf(found, query.limit, cursorOf, shown);
    return { certificates: items.flatMap(shown), ...more };
  }

  /** Takes effect for the next handshake. */
  async import(
    { certificatePem, privateKeyPem }: { certificatePem: string; privateKeyPem: string },
    context: Caller,
  ): Promise<Certificate> {
    const { database, clock } = this.#options;
    const { vault } = this.#parts;
    const imported = parseImport(certificatePem, privateKeyPem, clock.now());
    for (const name of imported.names) requireHostname(context.principal, name);
    return database.change(context, async (tx, afterCommit) => {
      this.#requireNew(imported.fingerprint);
      const certificate = await vault.insert(tx, 'imported', imported);
      afterCommit(() => this.#put(certificate));
      return certificate;
    });
  }

  /** What it served is served with the next best one: another import, or one of the internal CA. */
  remove(
    { id, version, force }: { id: string; version: number | undefined; force: boolean },
    context: Caller,
  ): Promise<Certificate> {
    const { vault } = this.#parts;
    return this.#options.database.change(context, async (tx, afterCommit) => {
      const entry = this.#find(id, context.principal);
      const certificate = (await vault.find(tx, [id])).get(id);
      if (!certificate) throw notFound(id);
      requireVersion(id, version, certificate.version);
      if (!force) this.#requireUnused(id);
      await vault.remove(tx, id);
      afterCommit(() => this.#forget(entry));
      return certificate;
    });
  }

  /** Of those certificates, in milliseconds since 1970; undefined when there is none. */
  async soonestExpiry(): Promise<number | undefined> {
    let soonest: number | undefined;
    for (const [{ notAfter }] of this.used()) if (notAfter < (soonest ?? Infinity)) soonest = notAfter;
    return soonest;
  }

  /** Renews the internal CA's certificates that near their end; a timer calls it every hour. */
  renewDue(): Promise<void> {
    const { catalog, internal } = this.#parts;
    const now = this.#options.clock.now();
    return internal.renewDue((name) => this.#servedAs(name) === name && !catalog.public(name, now));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#renewal.cancel();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    await this.settled();
  }

  #put(certificate: Certificate): void {
    this.#parts.catalog.put(entryOf(certificate));
    this.#options.events.emit('certificate.ready', { id: certificate.id, names: certificate.names });
  }

  #forget(entry: Entry): void {
    this.#parts.catalog.remove(entry);
    this.#parts.vault.forget(entry.id);
    this.#options.events.emit('certificate.removed', { id: entry.id, names: entry.names });
  }

  #servedAs(hostname: string): string | undefined {
    if (this.#controlHosts.has(hostname)) return hostname;
    const name = this.#options.servedName(hostname);
    // One certificate for the wildcard, not one for each name that clients think of.
    return name !== undefined && coversHostname(name, hostname) ? name : undefined;
  }

  #listed(certificate: Certificate, names: string[], used: readonly string[]): ListedCertificate {
    const entry = entryOf(certificate);
    const threshold = used.length > 0 ? thresholdOf(entry, this.#options.clock.now()) : undefined;
    return listedCertificateSchema.parse({
      ...certificate,
      names,
      used_by: used.slice(0, MAX_USED_BY),
      ...(threshold && {
        alert: { code: 'certificate.expiring', level: threshold.level, threshold_days: threshold.days },
      }),
    });
  }

  #matching(
    { cursor, hostname }: { cursor?: string | undefined; hostname?: string | undefined },
    principal: Principal,
  ): Entry[] {
    const [at, after] =
      cursor === undefined ? [-Infinity, ''] : decodeCursor('certificates', ['number', 'string'], cursor);
    return (
      [...this.#parts.catalog.all()]
        .filter(({ notAfter, id }) => notAfter > at || (notAfter === at && id > after))
        // By what is shown: whether a certificate has names besides those is nothing to find out by a filter.
        .filter(({ names }) => {
          const shown = shownNames(principal, names);
          if (hostname === undefined) return shown.length > 0;
          return shown.some((name) => coversHostname(name, hostname));
        })
        .sort((a, b) => a.notAfter - b.notAfter || (a.id < b.id ? -1 : 1))
    );
  }

  /** Certificate id → hostnames that are served with it now. */
  #usedBy(): Map<string, string[]> {
    const { catalog } = this.#parts;
    const now = this.#options.clock.now();
    const usedBy = new Map<string, string[]>();
    const use = (entry: Entry | undefined, hostname: string) => {
      if (!entry) return;
      const hostnames = usedBy.get(entry.id);
      if (hostnames) hostnames.push(hostname);
      else usedBy.set(entry.id, [hostname]);
    };
    const served = new Set([...this.#controlHosts, ...this.#options.servedHostnames()]);
    for (const hostname of served) use(catalog.public(hostname, now) ?? catalog.internal(hostname), hostname);
    for (const hostname of this.#namedBelow(served)) use(catalog.public(hostname, now), hostname);
    return usedBy;
  }

  /** Names below a served wildcard that have certificates of their own. */
  #namedBelow(served: ReadonlySet<string>): Set<string> {
    const names = new Set<string>();
    for (const entry of this.#parts.catalog.all())
      for (const name of entry.source === 'internal' ? [] : entry.names)
        if (!served.has(name) && served.has(wildcardOver(name)) && this.#servedAs(name) !== undefined)
          names.add(name);
    return names;
  }

  /** For changing it: all of its names have to be the principal's. What it may not see does not exist. */
  #find(id: string, principal: Principal): Entry {
    const entry = this.#parts.catalog.get(id);
    if (!entry || shownNames(principal, entry.names).length === 0) throw notFound(id);
    if (entry.names.every((name) => mayTouch(principal, name))) return entry;
    throw new AppError(
      'FORBIDDEN',
      `${id} also covers hostnames outside of ${principal.hostnames?.join(', ') ?? 'yours'}; an administrator can delete it`,
    );
  }

  #requireUnused(id: string): void {
    const used = this.#usedBy().get(id);
    if (!used) return;
    const some = used.slice(0, MAX_USED_BY).join(', ');
    throw new AppError(
      'PRECONDITION_FAILED',
      `${id} is in use by ${some}; with force: true they change to the next best certificate, which may be one of the internal CA`,
    );
  }

  #requireNew(fingerprint: string): void {
    const { catalog } = this.#parts;
    for (const entry of catalog.all())
      if (entry.fingerprint === fingerprint)
        throw new AppError('CONFLICT', `this certificate is there already, as ${entry.id}`, {
          details: { id: entry.id },
        });
    if (catalog.size >= MAX_CERTIFICATES)
      throw new AppError(
        'PRECONDITION_FAILED',
        `there are ${MAX_CERTIFICATES} certificates, which is the limit`,
      );
  }

  /** In the background, awaited at the end; a failure is reported here, and tried again when it is next needed. */
  #run(work: Promise<void>): void {
    const task = work
      .catch((cause: unknown) => report(this.#options, `issuing ahead failed: ${messageOf(cause)}`))
      .finally(() => this.#background.delete(task));
    this.#background.add(task);
  }
}

/** To a confined principal only those names are shown that are its own, or cover one of its own. */
function shownNames(principal: Principal, names: readonly string[]): string[] {
  const { hostnames = [] } = principal;
  return names.filter(
    (name) => mayTouch(principal, name) || hostnames.some((own) => coversHostname(name, own)),
  );
}

const notFound = (id: string): AppError =>
  new AppError('NOT_FOUND', `no certificate ${JSON.stringify(id)}; list_certificates names them`);

function report({ log, clock }: CertificateServiceOptions, message: string): void {
  log.write({ time: clock.now(), kind: 'tls', level: 'error', component: 'certificates', message });
}
