/**
 * Services as targets of proxies and routes: who may name one, whether it is there, and where it leads now. A service
 * belongs to no hostname, so that it is not for who is confined to some, as its operations are not.
 */
import { z } from 'zod';
import { AppError } from '../core/errors.ts';
import { isConfined, type Principal } from '../core/principal.ts';
import { type Place, serviceOf, type ServiceTarget, staysOf } from './target-url.ts';

const NEEDED = 'services:read';

export interface TargetServices {
  placeOf(target: ServiceTarget): Place;
  /** Why it can't be a target; undefined: it can, and where it is is known when this ends. */
  fault(target: ServiceTarget): Promise<string | undefined>;
}

const mayName = (principal: Principal): boolean =>
  !isConfined(principal) && principal.permissions.has(NEEDED);

/** @param before what it leads to already: who may change it may leave that as it is */
export function requireMayName(
  principal: Principal,
  urls: readonly string[],
  before: readonly string[] = [],
): void {
  const named = urls.find((url) => serviceOf(url) && !before.includes(url));
  if (named === undefined || mayName(principal)) return;
  throw new AppError(
    'FORBIDDEN',
    `${named}: to name a service as a target needs the permission ${NEEDED} and a credential that is confined to no hostnames`,
    { details: { required: NEEDED } },
  );
}

/** Who may not name one is not told which there are. Not in a change: where they are is asked for. */
export async function requireServices(
  principal: Principal,
  urls: readonly string[],
  services: TargetServices,
): Promise<void> {
  if (!mayName(principal)) return;
  for (const url of urls) {
    const target = serviceOf(url);
    const fault = target && (await services.fault(target));
    if (fault !== undefined) throw new AppError('INVALID_INPUT', `${url} may not be a target: ${fault}`);
  }
}

export const leadsTo = z
  .array(z.object({ target: z.string(), url: z.string().optional(), reason: z.string().optional() }))
  .optional()
  .describe('Of targets that name services: the url where each is now, or why it is nowhere');

export function leadingTo(
  principal: Principal,
  urls: readonly string[],
  services: Pick<TargetServices, 'placeOf'>,
): { leads_to?: NonNullable<z.output<typeof leadsTo>> } {
  if (!mayName(principal)) return {};
  const led = [...new Set(urls)].flatMap((target): z.output<typeof leadsTo> & object => {
    const service = serviceOf(target);
    if (!service) return [];
    const place = services.placeOf(service);
    return place.stay
      ? staysOf(place).map(({ url }) => ({ target, url }))
      : [{ target, reason: place.reason }];
  });
  return led.length > 0 ? { leads_to: led } : {};
}
