/** A user in memory, and as a row of the table. */
import { bundles, expandPermissions, type Permission } from '../core/permissions.ts';
import { type UserDocument, userDocument } from './schema.ts';

export interface Person {
  readonly id: string;
  readonly username: string;
  readonly document: UserDocument;
  readonly permissions: ReadonlySet<Permission>;
  /** Undefined: all. */
  readonly hostnames: readonly string[] | undefined;
  readonly hasPassword: boolean;
  readonly createdAt: number;
  readonly version: number;
}

/** In which somebody changes how they sign in; milliseconds since 1970, whole seconds. */
export interface OwnSession {
  readonly userId: string;
  readonly startedAt: number;
}

interface Row {
  id: string;
  username: string;
  document: string;
  password_hash: string | null;
  created_at: number;
  version: number;
}

export const rightsOf = ({ role }: Pick<UserDocument, 'role'>): ReadonlySet<Permission> =>
  expandPermissions(role === 'none' ? [] : bundles[role]);

export const withRights = (person: Omit<Person, 'permissions' | 'hostnames'>): Person => ({
  ...person,
  permissions: rightsOf(person.document),
  hostnames: person.document.hostnames ?? undefined,
});

/** The same person where nothing is different. */
export function withDocument(person: Person, document: UserDocument): Person {
  const isSame = JSON.stringify(userDocument.parse(document)) === JSON.stringify(person.document);
  return isSame ? person : withRights({ ...person, document, version: person.version + 1 });
}

export const toRow = ({ id, username, document, createdAt, version }: Person) => ({
  id,
  username,
  document: JSON.stringify(document),
  created_at: createdAt,
  version,
});

/** @throws when the row is not one that this system wrote. */
export function personOf({ id, username, document, password_hash, created_at, version }: Row): Person {
  return withRights({
    id,
    username,
    document: userDocument.parse(JSON.parse(document)),
    hasPassword: password_hash !== null,
    createdAt: created_at,
    version,
  });
}
