/**
 * What is never connected to because an operator's setting, or whoever a setting names, says so: link-local addresses
 * and those where the metadata services of clouds are, in any spelling. Loopback and private networks are allowed: the
 * services of operators are there. `urlFault` judges a URL, `lookupDialable` every address that its name has, at the
 * moment of connecting. What strangers name is judged more strictly (`oauth/safe-fetch.ts`), targets by their own list
 * (`proxies/target-policy.ts`).
 */
import { lookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

export class AddressRefused extends Error {
  override readonly name = 'AddressRefused';
}

/** Network and length of its prefix. @see {@link https://www.rfc-editor.org/rfc/rfc6890 | RFC 6890} */
const FORBIDDEN = [
  ['0.0.0.0', 8],
  ['169.254.0.0', 16],
  ['100.100.100.200', 32],
  ['168.63.129.16', 32],
  ['224.0.0.0', 4],
  ['255.255.255.255', 32],
  ['::', 128],
  ['fe80::', 10],
  ['ff00::', 8],
  ['fd00:ec2::', 32],
  ['fd20:ce::254', 128],
  ['fd00:c1::a9fe:a9fe', 128],
] as const;

const family = (address: string) => (address.includes(':') ? 'ipv6' : 'ipv4');
const forbidden = new BlockList();
for (const [network, prefix] of FORBIDDEN) forbidden.addSubnet(network, prefix, family(network));

/** Also where IPv6 hides the IPv4 address (`::ffff:a.b.c.d`). What can't be read is none. */
export const isDialable = (address: string): boolean =>
  isIP(address) !== 0 && !forbidden.check(address, family(address));

/** Why this URL is not asked, whatever the DNS says; undefined when it may be. */
export function urlFault({ hostname, username, password }: URL): string | undefined {
  if (username !== '' || password !== '') return 'a URL with a user or password in it is not fetched';
  // An address in the URL itself is never looked up.
  const bare = hostname.replace(/^\[|\]$/g, '');
  return isIP(bare) === 0 || isDialable(bare) ? undefined : `${bare} is an address that is not fetched from`;
}

/** What a setting may name: HTTP or HTTPS, without a user name, at no address that is not connected to. */
export function isServiceUrl(text: string): boolean {
  const url = URL.parse(text);
  const isHttp = url?.protocol === 'https:' || url?.protocol === 'http:';
  return isHttp && url.hash === '' && urlFault(url) === undefined;
}

/** The address that was judged is the one that is connected to; one that may not be condemns the whole answer. */
export const lookupDialable: LookupFunction = (hostname, { all }, callback) => {
  lookup(hostname, { all: true }, (error, addresses) => {
    const refused = addresses?.find(({ address }) => !isDialable(address));
    const fault =
      error ??
      (refused && new AddressRefused(`${hostname} is at ${refused.address}, which is not fetched from`));
    if (fault) return callback(fault, []);
    const [first] = addresses;
    return all === true
      ? callback(null, addresses)
      : callback(null, first?.address ?? '', first?.family ?? 0);
  });
};
