/**
 * Asks resolvers, one after the other until one knows. "There is no such name", "there is nothing of this type" and "it
 * could not be found out" are different results, never exceptions.
 */
import { messageOf } from '../../core/errors.ts';
import { DnsFault } from './fault.ts';
import { type Message, type QueryType, RCODE, rcodeName, type RecordData } from './message.ts';
import { ask, type DnsServer, type Network } from './transport.ts';

/** Names from alias to alias (RFC 1034 §3.6.2), before it is taken for a loop. */
const MAX_ALIASES = 12;

type DataOf<Type extends QueryType> = Extract<RecordData, { readonly type: Type }>;

export type Lookup<Type extends QueryType = QueryType> = {
  /** The names the aliases led to, in order; the last one is what the result is about. */
  readonly aliases: readonly string[];
} & (
  | { readonly kind: 'found'; readonly records: readonly DataOf<Type>[] }
  /** The name exists, without a record of this type. */
  | { readonly kind: 'no_data' }
  | { readonly kind: 'no_name' }
  | Failure
);

/** `error`: a server said so (SERVFAIL, REFUSED); `timeout`, `unreachable`: none could be asked. */
export interface Failure {
  readonly kind: 'error' | 'timeout' | 'unreachable';
  readonly reason: string;
}

export interface Resolver {
  /** @throws AppError CANCELLED, nothing else. */
  lookup<Type extends QueryType>(name: string, type: Type, signal: AbortSignal): Promise<Lookup<Type>>;
}

export function createResolver(network: Network, servers: readonly DnsServer[]): Resolver {
  async function askAny(name: string, type: QueryType, signal: AbortSignal): Promise<Message | Failure> {
    let failure: Failure = { kind: 'unreachable', reason: 'no resolver is known' };
    for (const server of servers) {
      const reply = await askOne(network, server, { name, type }, signal);
      if (!('kind' in reply)) return reply;
      // What a server said tells more than that another one was silent.
      if (failure.kind !== 'error') failure = reply;
    }
    return failure;
  }

  return {
    async lookup<Type extends QueryType>(
      name: string,
      type: Type,
      signal: AbortSignal,
    ): Promise<Lookup<Type>> {
      const aliases: string[] = [];
      let current = name;
      for (;;) {
        const reply = await askAny(current, type, signal);
        if ('kind' in reply) return { ...reply, aliases };
        const led = followed(reply, current, type);
        aliases.push(...led);
        if (aliases.length > MAX_ALIASES || new Set([name, ...aliases]).size <= aliases.length)
          return { kind: 'error', reason: 'the aliases (CNAME) go in circles or are too many', aliases };
        current = aliases.at(-1) ?? name;
        const records = recordsOf(reply, current, type);
        if (records.length > 0) return { kind: 'found', records, aliases };
        // RFC 6604 §3: the code is about the last name of the chain.
        if (reply.rcode === RCODE.NXDOMAIN) return { kind: 'no_name', aliases };
        // A server that does not recurse stops at an alias that leads out of what it knows.
        if (led.length === 0) return { kind: 'no_data', aliases };
      }
    },
  };
}

async function askOne(
  network: Network,
  server: DnsServer,
  { name, type }: { name: string; type: QueryType },
  signal: AbortSignal,
): Promise<Message | Failure> {
  try {
    const reply = await ask(network, server, { name, type, recursionDesired: true }, signal);
    if (reply.rcode === RCODE.NOERROR || reply.rcode === RCODE.NXDOMAIN) return reply;
    return { kind: 'error', reason: `${server.address} answered ${rcodeName(reply.rcode)}` };
  } catch (cause) {
    if (!(cause instanceof DnsFault)) throw cause;
    return { kind: failureKind[cause.kind], reason: `${server.address}: ${messageOf(cause)}` };
  }
}

const failureKind = {
  timeout: 'timeout',
  unreachable: 'unreachable',
  no_route: 'unreachable',
  malformed: 'error',
} as const satisfies Record<DnsFault['kind'], Failure['kind']>;

function followed({ answers }: Message, name: string, type: QueryType): string[] {
  if (type === 'CNAME') return [];
  const aliases: string[] = [];
  for (let at = name; aliases.length <= MAX_ALIASES; ) {
    const link = answers.find((record) => record.name === at && record.data.type === 'CNAME');
    if (link?.data.type !== 'CNAME') break;
    at = link.data.target;
    aliases.push(at);
  }
  return aliases;
}

export function recordsOf<Type extends QueryType>(
  { answers }: Message,
  name: string,
  type: Type,
): DataOf<Type>[] {
  const isOfType = (data: RecordData): data is DataOf<Type> => data.type === type;
  return answers
    .filter((record) => record.name === name)
    .map(({ data }) => data)
    .filter(isOfType);
}
