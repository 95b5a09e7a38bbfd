/** Who comes in of those whom a provider vouches for. What the settings do not say comes in by a link or an invitation. */
import { AppError } from '../../core/errors.ts';
import type { Identity } from '../../users/schema.ts';
import type { Identities, OwnSession, Person } from '../interactions/scene.ts';
import type { Allow, UpstreamSettings } from './upstream.ts';

/** What is known of identities, and made of them. */
export interface KnownIdentities extends Pick<Identities, 'list' | 'unlink'> {
  /** Whose it is; undefined: nobody's, or of somebody who is not let in. */
  signIn(identity: Identity): Promise<Person | undefined>;
  /** Whether it is somebody's, let in or not. */
  isKnown(identity: Identity): Promise<boolean>;
  admit(identity: Identity, role: NonNullable<UpstreamSettings['newRole']>): Promise<Person>;
  link(own: OwnSession, identity: Identity): Promise<unknown>;
  accept(code: string, identity: Identity): Promise<Person>;
}

export const admissionOf = (known: KnownIdentities): Identities => ({
  async signIn(upstream, identity) {
    requireAdmitted(upstream, identity);
    const person = await known.signIn(identity);
    if (person) return { person, isNew: false };
    const { allow, newRole, title } = upstream;
    if (!allow || newRole === undefined || (await known.isKnown(identity)))
      throw new AppError(
        'FORBIDDEN',
        `no account here that is let in is linked to this account of ${title}; if you have one here, sign in in another way and link it on the page of your account, else ask for an invitation`,
      );
    return { person: await known.admit(identity, newRole), isNew: true };
  },
  async link(upstream, identity, own) {
    requireAdmitted(upstream, identity);
    await known.link(own, identity);
  },
  async accept(upstream, identity, code) {
    requireAdmitted(upstream, identity);
    return known.accept(code, identity);
  },
  list: (userId) => known.list(userId),
  unlink: (userId, which) => known.unlink(userId, which),
});

function requireAdmitted({ allow, title }: UpstreamSettings, identity: Identity): void {
  if (admits(allow, identity)) return;
  const why = identity.isEmailVerified ? '' : `, and ${title} has not verified an address of it`;
  throw new AppError(
    'FORBIDDEN',
    `this account of ${title} is not one that may come in here${why}; ask an administrator`,
  );
}

/** Whether somebody may come by a provider at all. An address that it has not verified is none. Pure. */
export function admits(allow: Allow | undefined, { groups, email, isEmailVerified }: Identity): boolean {
  if (!allow || allow.everyone) return true;
  if (groups.some((group) => allow.groups.includes(group))) return true;
  if (email === undefined || !isEmailVerified) return false;
  return allow.emails.includes(email) || allow.domains.includes(email.slice(email.lastIndexOf('@') + 1));
}
