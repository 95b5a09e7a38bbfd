/**
 * Connections that an operator's setting, or whoever a setting names, asks for: to no address that nothing connects to
 * (`core/addresses.ts`). `urlFault` judges a URL, `lookupDialable` every address that its name has, at the moment of
 * connecting. What strangers name is judged more strictly (`oauth/safe-fetch.ts`), targets by their own list
 * (`proxies/target-policy.ts`).
 */
import { lookup } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { forbiddenAddress, isOwnNetwork } from './addresses.ts';

export class AddressRefused extends Error {
  override readonly name = 'AddressRefused';
}

/** Why this URL is not asked, whatever the DNS says; undefined when it may be. */
export function urlFault({ hostname, username, password }: URL): string | undefined {
  if (username !== '' || password !== '') return 'a URL with a user or password in it is not fetched';
  // An address in the URL itself is never looked up.
  const bare = hostname.replace(/^\[|\]$/g, '');
  const fault = isIP(bare) === 0 ? undefined : forbiddenAddress(bare);
  return fault && `${fault}, and is not fetched from`;
}

/** What a setting may name: HTTP or HTTPS, without a user name, at no address that is not connected to. */
export function isServiceUrl(text: string): boolean {
  const url = URL.parse(text);
  const isHttp = url?.protocol === 'https:' || url?.protocol === 'http:';
  return isHttp && url.hash === '' && urlFault(url) === undefined;
}

/**
 * The address that was judged is the one that is connected to. Those that may not be are left out, for a name on the
 * own network (`.local`) has link-local ones beside the others; a name with no other is refused.
 */
export const lookupDialable: LookupFunction = lookupBy(forbiddenAddress);

/** The same for what is sent unencrypted: to the own network only. */
export const lookupOwn: LookupFunction = lookupBy(
  (address) =>
    forbiddenAddress(address) ??
    (isOwnNetwork(address) ? undefined : `${address} is not on the own network, and this is not encrypted`),
);

function lookupBy(faultOf: (address: string) => string | undefined): LookupFunction {
  return (hostname, { all }, callback) => {
    lookup(hostname, { all: true }, (error, addresses) => {
      const judged = (addresses ?? []).map((each) => ({ ...each, fault: faultOf(each.address) }));
      const [first, ...others] = judged.filter(({ fault }) => fault === undefined);
      if (!first) return callback(error ?? noneOf(hostname, judged), []);
      return all === true ? callback(null, [first, ...others]) : callback(null, first.address, first.family);
    });
  };
}

const noneOf = (hostname: string, judged: readonly { fault: string | undefined }[]): AddressRefused =>
  new AddressRefused(
    judged.length === 0
      ? `${hostname} has no address`
      : `${hostname} is not fetched from: ${judged.map(({ fault }) => fault).join(', ')}`,
  );
