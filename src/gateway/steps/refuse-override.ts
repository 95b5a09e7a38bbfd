/**
 * Many upstreams take a method out of a header field for the method of the request. Such a field passes where the
 * routes give both methods the same, since nothing is decided by it then; anywhere else the request would be matched and
 * authorised as one method and served as another. It is refused rather than taken off: the client asked for something
 * else than its upstream would do without it.
 */
import { methodsNotServed } from '../../routes/decide.ts';
import { matchRequest } from '../../routes/match.ts';
import { methodOverrides } from '../headers.ts';
import type { Transit } from '../transit.ts';

export function refuseOverride(transit: Transit): boolean {
  const { headers } = transit;
  for (const name of methodOverrides) {
    const value = headers[name];
    // Several fields of a name come joined. Upstreams differ in which of several they take.
    if (
      value === undefined ||
      !String(value)
        .split(',')
        .some((method) => isDecidedOtherwise(transit, method))
    )
      continue;
    return transit.refuse({
      status: 400,
      code: 'INVALID_INPUT',
      message: `The method in ${name} is treated differently here. Send that method itself.`,
      reason: `${name} names a method of another route`,
    });
  }
  return false;
}

function isDecidedOtherwise({ snapshot, hostname, path, match, connection }: Transit, text: string): boolean {
  const method = text.trim().toUpperCase();
  if (method === '') return false;
  if (methodsNotServed.has(method)) return true;
  // A guarded port has no routes.
  return !connection.guard && matchRequest(snapshot.table, hostname, method, path) !== match;
}
