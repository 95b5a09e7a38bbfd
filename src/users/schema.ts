/** People who sign in. What is told of one never includes how they prove who they are. */
import { z } from 'zod';
import { nextCursorField, timestamp } from '../core/collection.ts';
import { hostname } from '../core/hostname-field.ts';
import { limits } from '../core/limits.ts';
import { bundleNames } from '../core/permissions.ts';
import { cleanText } from '../core/untrusted.ts';

/** Characters; what is longer is no password that a person keeps. */
export const MIN_PASSWORD = 12;
export const MAX_PASSWORD = 256;
const MAX_USERNAME = 64;
const MAX_EMAIL = 254;
export const MAX_GROUPS = 100;
const MAX_GROUP = 128;
/** Beside a provider's name and a colon. */
const MAX_UPSTREAM_GROUP = 90;
const MAX_HOSTNAMES = 100;

/** Compared in lower case: two people must not look like one. */
export const username = z
  .string()
  .min(1)
  .max(MAX_USERNAME)
  .overwrite((text) => text.toLowerCase())
  .regex(/^[a-z0-9](?:[a-z0-9._@+-]*[a-z0-9])?$/, 'has to be of letters, digits and . _ @ + -')
  .describe('Name to sign in with');

export const email = z
  .email()
  .max(MAX_EMAIL)
  .overwrite((text) => text.toLowerCase());

const groupName = z
  .string()
  .min(1)
  .max(MAX_GROUP)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:/@-]*$/, 'has to be of letters, digits and . _ : / @ -');

/** Kept with the name of the provider in front. */
const upstreamGroup = z
  .string()
  .min(1)
  .max(MAX_UPSTREAM_GROUP)
  .regex(/^[A-Za-z0-9/][A-Za-z0-9._:/@-]*$/);

const displayName = z
  .string()
  .min(1)
  .max(limits.shortText)
  .refine(
    (text) => text.trim() === text && cleanText(text) === text,
    'has to be printable, without spaces around it',
  );

/** What an administrator can set. */
export const userSettings = z.strictObject({
  name: displayName.optional().describe('Shown to people; absent: the username'),
  email: email.optional().describe('Compared by protections that allow addresses or domains'),
  groups: z
    .array(groupName)
    .max(MAX_GROUPS)
    .default([])
    .describe(
      'Compared by protections that allow groups; those with the name of a provider in front are from it',
    ),
  role: z
    .enum(['none', ...bundleNames])
    .default('none')
    .describe('The most that this user may do here by any client; none: only sign in to protected hostnames'),
  hostnames: z
    .array(hostname)
    .max(MAX_HOSTNAMES)
    .nullable()
    .default(null)
    .describe('Hostnames that the role is for; null: all'),
  disabled: z.boolean().default(false).describe('true: signed out everywhere and not let in'),
});
export type UserSettings = z.output<typeof userSettings>;

/** What is kept beside the columns of the table. */
export const userDocument = userSettings.extend({
  /** Only a provider says so. */
  email_verified: z.boolean().default(false),
  /** Issuer of the provider that the address is from; absent: an administrator wrote it. */
  email_by: z.string().optional(),
  owner: z.string(),
  /** Sessions that began before this are over; milliseconds since 1970. */
  signed_out_at: z.int().default(0),
});
export type UserDocument = z.output<typeof userDocument>;

export const userSchema = z.object({
  id: z.string(),
  username: z.string(),
  ...userSettings.shape,
  name: z.string(),
  email_verified: z.boolean(),
  sign_in: z
    .array(z.string())
    .describe('Ways to sign in that are set up: password, passkey, or the name of an upstream provider'),
  created_at: timestamp,
  last_seen_at: timestamp.nullable(),
  version: z.int(),
});
export type User = z.output<typeof userSchema>;

const MAX_SUBJECT = 255;
const MAX_ISSUER = 500;

/** Undefined where a provider says something that is not fit to be kept: a name is no reason to refuse a person. */
const ifFit = <T>(schema: z.ZodType<T>) => schema.optional().catch(undefined);

/** Who somebody is elsewhere, as the provider vouches for it. Issuer and subject are the identity, the rest is told of it. */
export const identity = z.object({
  issuer: z.string().min(1).max(MAX_ISSUER),
  /** @see OpenID Connect Core 1.0 §2, `sub` */
  subject: z.string().min(1).max(MAX_SUBJECT),
  /** What they are called there. */
  label: z
    .string()
    .overwrite((text) => cleanText(text, MAX_USERNAME))
    .catch(''),
  name: ifFit(displayName),
  email: ifFit(email),
  isEmailVerified: z.boolean(),
  /** As the provider names them. Those that no policy could name are left out. */
  groups: z
    .array(z.unknown())
    .transform((all) =>
      all.map((one) => upstreamGroup.safeParse(one).data).filter((one) => one !== undefined),
    )
    .transform((all) => [...new Set(all)].slice(0, MAX_GROUPS)),
});
export type Identity = z.output<typeof identity>;

/** With the way in for who has none yet. */
export const invitedUserSchema = userSchema.extend({
  invite_url: z
    .string()
    .optional()
    .describe(
      'Where this person, once, sets a password or a passkey: shown this once. Absent when a call was repeated by its idempotency_key',
    ),
  invite_expires_at: timestamp.optional(),
});
export type InvitedUser = z.output<typeof invitedUserSchema>;

export const userListSchema = z.object({ users: z.array(userSchema), next_cursor: nextCursorField });
