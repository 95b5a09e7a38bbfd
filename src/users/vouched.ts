/** What providers say of a person, in what is kept of them. Pure. */
import { type Identity, MAX_GROUPS, type UserDocument, userDocument } from './schema.ts';
import type { Provider } from './ways.ts';

/** What the provider says now takes the place of what it said before; what others said stays. */
export function vouched(document: UserDocument, identity: Identity, provider: Provider): UserDocument {
  const { email, email_verified: isVerified, email_by: by, ...rest } = document;
  const isOurs = by === identity.issuer;
  const address =
    identity.email === undefined
      ? !isOurs && { email, email_verified: isVerified, email_by: by }
      : { email: identity.email, email_verified: identity.isEmailVerified, email_by: identity.issuer };
  const groups = [
    ...rest.groups.filter((group) => !isOf(provider, group)),
    ...identity.groups.map((group) => `${provider.name}:${group}`),
  ];
  return userDocument.parse({
    ...rest,
    ...address,
    ...(identity.name !== undefined && { name: identity.name }),
    groups: groups.slice(0, MAX_GROUPS),
  });
}

/** What these providers vouched for is worth nothing any more. */
export function unvouched(document: UserDocument, providers: readonly Provider[]): UserDocument {
  const isTheirs = providers.some(({ issuer }) => issuer === document.email_by);
  return {
    ...document,
    ...(isTheirs && { email_verified: false }),
    groups: document.groups.filter((group) => !providers.some((provider) => isOf(provider, group))),
  };
}

/** A group of the provider, whose own name stands in front: nobody can make one there that is taken for another. */
const isOf = ({ name }: Provider, group: string): boolean => group.startsWith(`${name}:`);
