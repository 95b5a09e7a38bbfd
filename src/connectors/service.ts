/**
 * Why a client can't connect: its way in is walked as it would walk it, through the listeners of this process, and set
 * beside what real clients did by the log. Changes nothing that stays. Called by `operations.ts`. Not here: what a step
 * looks at (`steps/`), and what clients do (`profiles.ts`).
 */
import type { Clock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { OperationContext } from '../core/operation.ts';
import { isConfined, mayTouch, type Principal } from '../core/principal.ts';
import { RateLimiter } from '../core/rate-limit.ts';
import type { Log } from '../core/record.ts';
import { cleanText } from '../core/untrusted.ts';
import type { RouteTest } from '../routes/schema.ts';
import { type AccessRecord, attemptsIn, type Place } from './attempts.ts';
import { DISCOVERY, INTERACTION_PREFIX, PATHS } from '../oauth/paths.ts';
import { METADATA_PATH } from '../routes/own.ts';
import { profiles } from './profiles.ts';
import { reportOf } from './report.ts';
import type { ClientId, Diagnosis } from './schema.ts';
import type { SignIn, Subject } from './step.ts';
import { walkAs } from './walk.ts';
import { Wire, type WireOptions } from './wire.ts';

/** Below what one address may register, since clients on this machine share that with a walk. */
const REGISTRATIONS_PER_MINUTE = 20;
const MAX_AT_ONCE = 4;
const DEFAULT_SINCE = '24h';
/** Of each question to the log. */
const LOG_PAGES = 4;
const PAGE_RECORDS = 500;
const MORE_RECORDS = 'Older records of the log than those that were read: since narrows';

export interface RecordQuestion {
  /** Requests are records of kind `access` or `mcp`; of the others none has a path. */
  readonly kind: 'all';
  readonly hostname: string;
  readonly path_prefix: string;
  readonly since: string;
  readonly lines: number;
  readonly verbose: true;
  readonly cursor?: string | undefined;
}

export interface ConnectorServiceOptions extends Pick<WireOptions, 'listeners' | 'isOwn' | 'authority'> {
  readonly clock: Clock;
  readonly log: Log;
  readonly routes: {
    test(url: string, method: string, context: Pick<OperationContext, 'principal'>): RouteTest;
  };
  readonly proxyAt: (hostname: string, principal: Principal) => Promise<Pick<Subject, 'proxy' | 'isSticky'>>;
  readonly records: (
    question: RecordQuestion,
    context: Pick<OperationContext, 'principal' | 'signal'>,
  ) => Promise<{ records: AccessRecord[]; next_cursor?: string | undefined }>;
  /** Where tokens for hostnames of proxies are granted. */
  readonly issuerHostname: () => string;
  readonly isControlHost: (hostname: string) => boolean;
  readonly publicUrl: string | undefined;
  /** In the place of this user, who has signed in and asks; never of another one. */
  readonly signInAs: (userId: string, issuer: string) => SignIn | undefined;
}

interface Question {
  readonly url: string;
  readonly client?: ClientId | undefined;
  readonly since?: string | undefined;
}

interface Walkable extends Pick<Subject, 'typed' | 'url' | 'route'> {
  readonly client: ClientId | undefined;
  readonly since: string;
}

type Asker = Pick<OperationContext, 'principal' | 'signal'>;

export class ConnectorService implements Disposable {
  readonly #options: ConnectorServiceOptions;
  readonly #registrations: RateLimiter;
  /** Ids of who asked. */
  readonly #underWay = new Set<string>();

  constructor(options: ConnectorServiceOptions) {
    this.#options = options;
    this.#registrations = new RateLimiter(options.clock, REGISTRATIONS_PER_MINUTE, 1);
  }

  /** @throws AppError INVALID_INPUT, FORBIDDEN for a hostname outside of a confinement, RATE_LIMITED. */
  async diagnose({ url: typed, client, since = DEFAULT_SINCE }: Question, asker: Asker): Promise<Diagnosis> {
    const url = parseUrl(typed);
    const route = this.#options.routes.test(typed, 'POST', asker);
    const { id } = asker.principal;
    // A target that is slow must not keep the others waiting.
    if (this.#underWay.has(id))
      throw new AppError('RATE_LIMITED', 'a diagnosis of yours is under way; try again when it is over');
    if (this.#underWay.size >= MAX_AT_ONCE)
      throw new AppError(
        'RATE_LIMITED',
        `${MAX_AT_ONCE} diagnoses are under way; try again in a few seconds`,
      );
    this.#underWay.add(id);
    try {
      return await this.#walk({ typed, url, route, client, since }, asker);
    } finally {
      this.#underWay.delete(id);
    }
  }

  async #walk({ typed, url, route, client, since }: Walkable, asker: Asker): Promise<Diagnosis> {
    // First, so that a `since` which can't be read costs nothing.
    const place = this.#placeOf(url);
    const { records, isCut } = await this.#recordsOf(place, since, asker);
    const attempts = attemptsIn(records, place);
    using wire = new Wire({ ...this.#options, signal: asker.signal });
    const subject = await this.#subjectOf({ typed, url, route, wire }, asker);
    const walked = [];
    // One after the other: what is asked is the same for most, and is asked once.
    for (const profile of profiles)
      if (client === undefined || client === profile.id) walked.push(await walkAs(profile, subject));
    return reportOf({
      url: cleanText(typed),
      walked,
      attempts,
      since,
      notSeen: [...this.#notSeen(url, asker), ...(isCut ? [MORE_RECORDS] : [])],
    });
  }

  async #subjectOf(
    parts: Pick<Subject, 'typed' | 'url' | 'route' | 'wire'>,
    { principal, signal }: Asker,
  ): Promise<Subject> {
    const { clock, log, publicUrl, signInAs, proxyAt } = this.#options;
    const userId = principal.oauth?.userId;
    return {
      ...parts,
      principal,
      signal,
      ...(await proxyAt(hostOf(parts.url), principal)),
      publicUrl: publicUrl === undefined ? undefined : new URL(publicUrl),
      isPerson: userId !== undefined,
      signInAt: (issuer) => (userId === undefined ? undefined : signInAs(userId, issuer)),
      mayRegister: () => this.#registrations.take('') === 0,
      report: (message) =>
        log.write({
          time: clock.now(),
          kind: 'system',
          level: 'warn',
          component: 'oauth',
          message: `diagnose_connector: ${cleanText(message)}`,
        }),
    };
  }

  #placeOf(url: URL): Place {
    const { isControlHost, issuerHostname } = this.#options;
    const { pathname: path } = url;
    const hostname = hostOf(url);
    return { hostname, path, issuerHostname: isControlHost(hostname) ? hostname : issuerHostname() };
  }

  async #recordsOf(
    { hostname, path, issuerHostname }: Place,
    since: string,
    asker: Asker,
  ): Promise<{ records: AccessRecord[]; isCut: boolean }> {
    const questions: [hostname: string, prefix: string][] = [
      [hostname, path],
      [hostname, METADATA_PATH],
      ...DISCOVERY.map((known): [string, string] => [issuerHostname, known]),
      ...[PATHS.registration, PATHS.authorization, INTERACTION_PREFIX, PATHS.token].map(
        (known): [string, string] => [issuerHostname, known],
      ),
    ];
    const found = new Map<string, AccessRecord>();
    let isCut = false;
    for (const [host, prefix] of questions) {
      const pages = await this.#pagesOf({ host, prefix, since }, asker);
      for (const record of pages.records) found.set(`${record.trace_id ?? ''} ${record.time}`, record);
      isCut ||= pages.isCut;
    }
    return { records: [...found.values()], isCut };
  }

  async #pagesOf(
    { host, prefix, since }: { host: string; prefix: string; since: string },
    asker: Asker,
  ): Promise<{ records: AccessRecord[]; isCut: boolean }> {
    const found: AccessRecord[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < LOG_PAGES && (page === 0 || cursor !== undefined); page++) {
      const { records, next_cursor } = await this.#options.records(
        {
          kind: 'all',
          hostname: host,
          path_prefix: prefix,
          since,
          lines: PAGE_RECORDS,
          verbose: true,
          cursor,
        },
        asker,
      );
      found.push(...records);
      cursor = next_cursor;
    }
    return { records: found, isCut: cursor !== undefined };
  }

  #notSeen(url: URL, { principal }: Asker): string[] {
    const { publicUrl, issuerHostname } = this.#options;
    const isFronted = publicUrl !== undefined && new URL(publicUrl).hostname === url.hostname;
    return [
      'Between the internet and this process: DNS, firewalls, and whether the client is let through',
      ...(isFronted
        ? [`The front of ${url.hostname} (control.public_url): its certificate, and what it changes`]
        : []),
      ...(isConfined(principal) && !mayTouch(principal, issuerHostname())
        ? [
            'Sign-ins in the log: this credential is confined to other hostnames than that of the authorization server',
          ]
        : []),
    ];
  }

  [Symbol.dispose](): void {
    this.#registrations.stop();
  }
}

/** As the log and the settings have it. */
const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[|\]$/g, '');

function parseUrl(typed: string): URL {
  const url = URL.parse(typed);
  if (url && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '' && url.hash === '')
    return url;
  throw new AppError(
    'INVALID_INPUT',
    'url: has to be the whole URL that the client was given, such as https://app.example.com/mcp',
  );
}
