/**
 * Whether the world can see a record yet. A CA may ask any server of the zone, so each one is asked directly (a resolver
 * would tell what it remembers), on every address it has, until all of them have the value.
 */
import { AppError, messageOf } from '../../core/errors.ts';
import { type Clock, SECOND } from '../../core/clock.ts';
import { cleanText } from '../../core/untrusted.ts';
import { DnsFault, type DnsFaultKind } from './fault.ts';
import { type Message, RCODE, rcodeName } from './message.ts';
import type { TxtRecord } from './provider.ts';
import { recordsOf, type Resolver } from './resolver.ts';
import { ask, cancelled, type Network } from './transport.ts';
import { nameServersOf } from './zone.ts';

/** Between one round and the next: it doubles from the first to the last. */
const FIRST_PAUSE_MS = SECOND;
const LAST_PAUSE_MS = 15 * SECOND;

/** What one address of one name server says. */
export interface ServerView {
  readonly server: string;
  /** Undefined when the server has none. */
  readonly address: string | undefined;
  /**
   * `lacks`: it answers, without the value. `refuses`: it does not answer for the zone. `silent`: no answer.
   * `no_route`: this machine has no network of that kind, so nothing was asked.
   */
  readonly state: 'has' | 'lacks' | 'refuses' | 'silent' | 'no_route';
  /** For a person, clean. */
  readonly detail: string;
}

export interface Authorities {
  readonly network: Network;
  readonly resolver: Resolver;
  /** 53, but in tests. */
  readonly port: number;
}

/** One round. @throws AppError when the name servers can't be looked up. */
async function viewsOf(
  { network, resolver, port }: Authorities,
  record: TxtRecord,
  signal: AbortSignal,
): Promise<ServerView[]> {
  const servers = await nameServersOf(resolver, record.zone, signal);
  const nowhere = servers
    .filter(({ addresses }) => addresses.length === 0)
    .map(({ name, fault }) => ({
      server: name,
      address: undefined,
      state: 'silent' as const,
      detail: cleanText(fault ?? ''),
    }));
  const asked = servers.flatMap(({ name, addresses }) =>
    addresses.map((address) => viewOf(network, { name, address, port }, record, signal)),
  );
  return [...nowhere, ...(await Promise.all(asked))];
}

async function viewOf(
  network: Network,
  { name: server, address, port }: { name: string; address: string; port: number },
  record: TxtRecord,
  signal: AbortSignal,
): Promise<ServerView> {
  try {
    const query = { name: record.name, type: 'TXT', recursionDesired: false } as const;
    const reply = await ask(network, { address, port }, query, signal);
    return { server, address, ...stateOf(reply, record) };
  } catch (cause) {
    if (!(cause instanceof DnsFault)) throw cause;
    return { server, address, state: failureState[cause.kind], detail: messageOf(cause) };
  }
}

const failureState = {
  timeout: 'silent',
  unreachable: 'silent',
  malformed: 'refuses',
  no_route: 'no_route',
} as const satisfies Record<DnsFaultKind, ServerView['state']>;

function stateOf(reply: Message, { name, value, zone }: TxtRecord): Pick<ServerView, 'state' | 'detail'> {
  const answers = reply.rcode === RCODE.NOERROR || reply.rcode === RCODE.NXDOMAIN;
  if (!answers) return { state: 'refuses', detail: `it answered ${rcodeName(reply.rcode)}` };
  // A server that only remembers what it heard elsewhere is not one of the zone.
  if (!reply.isAuthoritative) return { state: 'refuses', detail: `it does not answer for ${zone}` };
  const values = recordsOf(reply, name, 'TXT').map(({ text }) => text);
  if (values.includes(value)) return { state: 'has', detail: 'it has the record' };
  const others = values.length === 0 ? 'it has no TXT record there' : `it has ${values.length} other values`;
  return { state: 'lacks', detail: reply.rcode === RCODE.NXDOMAIN ? 'it has no such name' : others };
}

/** Each address that could be asked has it, and each server has such an address. */
function isVisible(views: readonly ServerView[]): boolean {
  const servers = new Set(views.map(({ server }) => server));
  const having = new Set(views.filter(({ state }) => state === 'has').map(({ server }) => server));
  return (
    servers.size > 0 &&
    servers.size === having.size &&
    views.every(({ state }) => state === 'has' || state === 'no_route')
  );
}

export interface Wait {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  /** After each round: for a timeline, or for whoever waits. */
  readonly onRound?: ((views: readonly ServerView[], round: number) => void) | undefined;
}

/**
 * Until every server has the value. @throws AppError TIMEOUT that names the servers without it (`details.servers` has
 * all), CANCELLED, and what looking up the servers throws when it does so to the end.
 */
export async function waitUntilVisible(
  authorities: Authorities,
  record: TxtRecord,
  { signal, timeoutMs, onRound }: Wait,
): Promise<ServerView[]> {
  const { clock } = authorities.network;
  const deadline = clock.now() + timeoutMs;
  let pause = FIRST_PAUSE_MS;
  for (let round = 1; ; round += 1) {
    const views = await roundOf(authorities, record, signal);
    if (!(views instanceof AppError)) {
      onRound?.(views, round);
      if (isVisible(views)) return views;
    }
    const left = deadline - clock.now();
    if (left <= 0) throw views instanceof AppError ? views : notVisible(record, views, timeoutMs);
    await sleep(clock, Math.min(pause, left), signal);
    pause = Math.min(pause * 2, LAST_PAUSE_MS);
  }
}

/** What can't be looked up now may be in a moment; what is wrong for good is thrown. */
async function roundOf(
  authorities: Authorities,
  record: TxtRecord,
  signal: AbortSignal,
): Promise<ServerView[] | AppError> {
  try {
    return await viewsOf(authorities, record, signal);
  } catch (cause) {
    const mayPass = cause instanceof AppError && (cause.code === 'TIMEOUT' || cause.code === 'UNAVAILABLE');
    if (!mayPass) throw cause;
    return cause;
  }
}

function notVisible(record: TxtRecord, views: readonly ServerView[], timeoutMs: number): AppError {
  const without = views.filter(({ state }) => state !== 'has' && state !== 'no_route');
  const having = views.length - without.length;
  const named = (without.length > 0 ? without : views).map(
    ({ server, address, detail }) => `${server} (${address ?? 'no address'}): ${detail}`,
  );
  return new AppError(
    'TIMEOUT',
    `after ${Math.round(timeoutMs / SECOND)} seconds ${having} of ${views.length} addresses of name servers of ${record.zone} answer with the TXT record ${record.name}. Without it: ${named.join('; ')}`,
    { details: { servers: views } },
  );
}

function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(cancelled(signal));
    const onAbort = () => {
      timer.cancel();
      reject(cancelled(signal));
    };
    const timer = clock.after(ms, () => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    });
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
