/**
 * What the proxy of a hostname wants of its certificate, beside what the settings say: which CAs and in which order,
 * which key, which profile. Pure.
 */
import type { CertificateKeyType } from '../core/key-type.ts';
import type { IssuanceSettings, Issuer } from './issuers.ts';
import type { OrderDocument } from './order-schema.ts';

export interface CertificateWish {
  /** Names of issuers in order of preference; one that is not set up is passed over. */
  readonly issuers?: readonly string[] | undefined;
  readonly keyType?: CertificateKeyType | undefined;
  readonly profile?: string | undefined;
}

/** Of a hostname or `*.parent`; undefined: none of its own. */
export type WishOf = (name: string) => CertificateWish | undefined;

/** In order of preference, those that may be asked for all of the names together. */
export function issuersFor(
  names: readonly string[],
  { issuers }: Pick<IssuanceSettings, 'issuers'>,
  wishOf: WishOf,
): readonly Issuer[] {
  return names.reduce((left, name) => {
    const wanted = wishOf(name)?.issuers;
    return wanted ? wanted.flatMap((each) => left.filter((issuer) => issuer.name === each)) : left;
  }, issuers);
}

/** The same, and before them the one that somebody asked for by name the last time, if it is among them. */
export const askedFirst = (issuers: readonly Issuer[], asked: string | undefined): readonly Issuer[] => [
  ...issuers.filter(({ directoryUrl }) => directoryUrl === asked),
  ...issuers.filter(({ directoryUrl }) => directoryUrl !== asked),
];

/** Key and profile for all of the names together: the first that any of them wants. */
export function keyWishFor(names: readonly string[], wishOf: WishOf): Omit<CertificateWish, 'issuers'> {
  const wishes = names.map(wishOf);
  return {
    keyType: wishes.find((wish) => wish?.keyType !== undefined)?.keyType,
    profile: wishes.find((wish) => wish?.profile !== undefined)?.profile,
  };
}

export type Made = Pick<OrderDocument, 'issuer' | 'directory' | 'key_type' | 'profile'>;

/** Whether what was ordered so is still what is wanted: what is not wished for in particular may be any. */
export function isAsWished(
  { issuers, keyType, profile }: CertificateWish,
  { issuer, key_type: madeWith, profile: madeBy }: Made,
): boolean {
  return (
    (issuers === undefined || issuers.includes(issuer)) &&
    (keyType === undefined || keyType === madeWith) &&
    (profile === undefined || profile === madeBy)
  );
}

/** Ordered in another way than is wanted now; what somebody asked for by hand stays as it was asked for. */
export function isOutdated({ reason, names, ...made }: OrderDocument, wishOf: WishOf): boolean {
  if (reason === 'requested') return false;
  return names.some((name) => {
    const wish = wishOf(name);
    return wish !== undefined && !isAsWished(wish, made);
  });
}
