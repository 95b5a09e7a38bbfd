/**
 * Says what is wrong with certificates now: those in use that near their end, and orders that nobody but a person helps
 * on. Looks every minute, at the store and at what is served, so that it needs to remember nothing. Made by `app.certificates.ts`,
 * which gives it where to say so.
 */
import { type Clock, MINUTE, SECOND, type Timer } from '../core/clock.ts';
import { toTimestamp } from '../core/collection.ts';
import { messageOf } from '../core/errors.ts';
import type { EventName, Events } from '../core/events.ts';
import type { Log } from '../core/record.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Entry } from './catalog.ts';
import { thresholdOf } from './expiry.ts';
import type { Issuance } from './issuance.ts';
import { isSilentOn } from './order-news.ts';
import type { StoredOrder } from './order-rows.ts';
import { remedyFor } from './remedies.ts';

const EVERY_MS = MINUTE;
const SOON_MS = SECOND;
/** Of the hostnames and the words of a CA, in one alert. */
const MAX_NAMES = 10;
const MAX_WORDS = 500;
/** Hostnames that the log is told of apart: below a wildcard there may be any number. */
const MAX_LINES = 1000;

/** After any of these something may be wrong, or right again. */
const news = [
  'proxy.changed',
  'certificate.ready',
  'certificate.failed',
  'certificate.removed',
] as const satisfies EventName[];

/** What is said of one cause; as `alerts` takes it. */
export interface CertificateAlert {
  key: string;
  stage: number;
  code: 'certificate.expiring' | 'certificate.failing';
  level: 'warn' | 'error';
  summary: string;
  hostname: string | undefined;
  /** The same for each hostname, without the others. */
  lines: { hostname: string; summary: string }[];
  facts: Record<string, unknown>;
}

export interface WatchOptions {
  clock: Clock;
  log: Log;
  events: Events;
  issuance: Pick<Issuance, 'orders'>;
  /** Certificates in use now, with the hostnames. */
  inUse: () => Iterable<readonly [Entry, readonly string[]]>;
  tell: (current: readonly CertificateAlert[]) => Promise<void>;
}

/** `alerts`: where it is said. */
export const watchOver = (
  base: Pick<WatchOptions, 'clock' | 'log' | 'events'>,
  {
    issuance,
    certificates,
    alerts,
  }: {
    issuance: WatchOptions['issuance'];
    certificates: { used: WatchOptions['inUse'] };
    alerts: { reconcile(source: string, current: readonly CertificateAlert[]): Promise<void> };
  },
): CertificateWatch =>
  new CertificateWatch({
    ...base,
    issuance,
    inUse: () => certificates.used(),
    tell: (current) => alerts.reconcile('certificates', current),
  });

class CertificateWatch implements AsyncDisposable {
  readonly #options: WatchOptions;
  #timer: Timer | undefined;
  #soon: Timer | undefined;
  #unsubscribe: (() => void)[] = [];
  #looking: Promise<void> | undefined;
  #again = false;

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  /** Call it once what is served is known: what is not in use raises nothing, and resolves what was raised. */
  start(): void {
    const { clock, events } = this.#options;
    this.#timer = clock.every(EVERY_MS, () => void this.look());
    this.#unsubscribe = news.map((name) => events.on(name, () => this.#lookSoon()));
    void this.look();
  }

  /** One at a time; asked for meanwhile, it looks once more. A failure is reported; the next look is a minute away. */
  look(): Promise<void> {
    this.#again = true;
    this.#looking ??= this.#lookAll()
      .catch((cause: unknown) => {
        const { log, clock } = this.#options;
        const message = `certificates can't be watched: ${messageOf(cause)}`;
        log.write({ time: clock.now(), kind: 'tls', level: 'error', component: 'certificates', message });
      })
      .finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer?.cancel();
    this.#soon?.cancel();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    await this.#looking;
  }

  /** News come in crowds. */
  #lookSoon(): void {
    this.#soon ??= this.#options.clock.after(SOON_MS, () => {
      this.#soon = undefined;
      void this.look();
    });
  }

  async #lookAll(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      await this.#look();
    }
  }

  async #look(): Promise<void> {
    const { clock, issuance, inUse, tell } = this.#options;
    const now = clock.now();
    const stuck = await issuance.orders.stuck();
    await tell([
      ...[...inUse()].flatMap(([entry, hostnames]) => expiring(entry, hostnames, now)),
      ...stuck.map(failing),
    ]);
  }
}

function expiring(entry: Entry, hostnames: readonly string[], now: number): CertificateAlert[] {
  const threshold = thresholdOf(entry, now);
  if (!threshold) return [];
  const { id, notAfter, source } = entry;
  const ends = toTimestamp(notAfter);
  const remedy = {
    acme: 'it should have been renewed: explain_certificate says why it was not',
    imported: 'it was imported: import its successor, or let a CA be asked (docs/guides/certificates.md)',
    internal: 'the internal CA should have renewed it: see the log',
  }[source];
  const [hostname] = hostnames;
  const summaryOf = (names: readonly string[]) =>
    `the certificate of ${names.slice(0, MAX_NAMES).join(', ')} ends at ${ends}; ${remedy}`;
  return [
    {
      key: `certificate.expiring/${id}`,
      stage: threshold.stage,
      code: 'certificate.expiring',
      level: threshold.level,
      summary: summaryOf(hostnames),
      hostname,
      lines: hostnames.slice(0, MAX_LINES).map((one) => ({ hostname: one, summary: summaryOf([one]) })),
      facts: { certificate_id: id, not_after: ends, threshold_days: threshold.days, source },
    },
  ];
}

function failing({ id, document }: StoredOrder): CertificateAlert {
  const { names, issuer, failures } = document;
  const failed = document.events.findLast(({ kind }) => kind === 'failed');
  const problem = failed?.problem === undefined ? undefined : cleanText(failed.problem);
  const remedy = problem === undefined ? '' : `; ${remedyFor(problem).remedy}`;
  const why = cleanText(failed?.text ?? 'refused', MAX_WORDS);
  const lineOf = (hostname: string) => {
    const others = names.filter((name) => name !== hostname);
    const said = isSilentOn(others, why) ? why : `another of the ${names.length} names of ${id} holds it up`;
    return { hostname, summary: `no certificate for ${hostname}: ${said}${remedy}` };
  };
  return {
    key: `certificate.failing/${id}`,
    stage: 1,
    code: 'certificate.failing',
    level: 'error',
    summary: `no certificate for ${names.slice(0, MAX_NAMES).join(', ')}: ${why}${remedy}`,
    hostname: names[0],
    lines: names.map(lineOf),
    facts: { order_id: id, issuer, failures, ...(problem !== undefined && { problem }) },
  };
}
