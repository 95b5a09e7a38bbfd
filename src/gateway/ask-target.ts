/**
 * One question to a target, wherever it is at that moment, over the connections that requests use, so that the same dialer
 * judges the address. No access record is written.
 */
import type { Clock } from '../core/clock.ts';
import type { Proxy } from '../proxies/schema.ts';
import { serviceOf, type Stay, staysOf, type Whereabouts } from '../proxies/target-url.ts';
import { pathOf } from '../routes/match.ts';
import type { Target } from './dialer.ts';
import { gatewayLimits } from './settings.ts';
import { targetOf } from './target-of.ts';
import type { Upstreams } from './upstream.ts';

export interface TargetQuestion {
  readonly target: Target;
  readonly path: string;
  readonly host: string;
}

interface Asking {
  readonly proxy: Proxy;
  /** Below that of the target. */
  readonly path: string;
  readonly isOneOfSeveral: boolean;
  readonly services: Pick<Whereabouts, 'placeOf'>;
}

/** To each replica, where there are some. What it answers throws when there is nobody to ask. */
export function questionsFor(
  text: string,
  { proxy, path, isOneOfSeveral, services }: Asking,
): () => [TargetQuestion, ...TargetQuestion[]] {
  const isOwnName = proxy.preserve_host && !proxy.hostname.startsWith('*');
  const questionAt = (base: string, host: string, stay?: Stay): TargetQuestion => ({
    target: targetOf(new URL(base), { proxy, isOneOfSeveral, stay }),
    path: `${stay ? pathOf(base) : ''}${pathOf(text)}${path}`,
    host: isOwnName ? proxy.hostname : host,
  });
  const service = serviceOf(text);
  if (!service) {
    const question = questionAt(text, new URL(text).host);
    return () => [question];
  }
  const place = services.placeOf(service);
  return () => {
    const stays = staysOf(place).slice(0, gatewayLimits.checkedReplicas);
    const [first, ...others] = stays.map((stay) => questionAt(stay.url, stay.host, stay));
    if (!first) throw new Error(place.reason);
    return [first, ...others];
  };
}

/** Its status. @throws whatever became of the connection or the signal */
export async function askTarget(
  { target, path, host }: TargetQuestion,
  { clock, upstreams }: { readonly clock: Clock; readonly upstreams: Pick<Upstreams, 'of'> },
  signal: AbortSignal,
): Promise<number> {
  const upstream = upstreams.of(target);
  upstream.inFlight++;
  try {
    const { statusCode, body } = await upstream.pool.request({
      method: 'GET',
      path,
      headers: { host, 'user-agent': 'ohp-health-check' },
      signal,
    });
    await body.dump({ limit: gatewayLimits.healthCheckBytes, signal });
    return statusCode;
  } finally {
    upstream.inFlight--;
    upstream.usedAt = clock.now();
  }
}
