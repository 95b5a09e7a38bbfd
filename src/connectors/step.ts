/** What a step of the walk gets and gives. Each step is a file of its own in `steps/`; `walk.ts` has their order. */
import type { Principal } from '../core/principal.ts';
import { cleanText } from '../core/untrusted.ts';
import { isLoopbackAddress } from '../routes/own.ts';
import type { RouteTest } from '../routes/schema.ts';
import type { Profile } from './profiles.ts';
import type { StepReport } from './schema.ts';
import type { Wire } from './wire.ts';

const MAX_QUOTED = 120;

export interface Finding {
  readonly status: StepReport['status'];
  readonly requested?: string | undefined;
  readonly found: string;
  readonly remedy?: string | undefined;
  /** Nothing behind it can be walked, though nothing has failed. */
  readonly ends?: true;
}

/** In the place of a person who signs in and agrees. Codes and tokens stay in this process. */
export interface SignIn {
  /** An authorization code, once, for the user who asks for the diagnosis. */
  code(asked: SignInRequest): Promise<string>;
  /** Ends all that came of it. */
  end(): Promise<void>;
}

export interface SignInRequest {
  readonly issuer: string;
  readonly clientId: string;
  readonly redirectUri: string;
  readonly resource: string;
  readonly scope: string;
  readonly challenge: string;
}

/** What is asked about, the same for every client. */
export interface Subject {
  /** As it was given to the client. */
  readonly typed: string;
  readonly url: URL;
  readonly route: RouteTest;
  readonly proxy: 'absent' | 'disabled' | 'enabled';
  /** Whether who came once goes to the same target, and the same replica of it, again. */
  readonly isSticky: boolean;
  readonly principal: Principal;
  readonly wire: Wire;
  /** Where the world reaches the control host, when a front changes that. */
  readonly publicUrl: URL | undefined;
  /** Undefined: nobody can stand in for a person there. */
  readonly signInAt: (issuer: string) => SignIn | undefined;
  readonly isPerson: boolean;
  /** Registrations are limited for each address, and this process has one. */
  readonly mayRegister: () => boolean;
  /** Aborted when nobody waits for the answer. */
  readonly signal: AbortSignal;
  /** For the log. */
  readonly report: (message: string) => void;
}

export interface Challenge {
  readonly metadataUrl: string | undefined;
  readonly scope: string | undefined;
}

export interface ResourceMetadata {
  readonly resource: string;
  readonly authorizationServers: readonly string[];
  readonly scopes: readonly string[];
}

export interface ServerMetadata {
  readonly issuer: string;
  readonly authorizationEndpoint: string;
  readonly tokenEndpoint: string;
  readonly registrationEndpoint: string | undefined;
  readonly revocationEndpoint: string | undefined;
  readonly document: Readonly<Record<string, unknown>>;
}

export interface RegisteredClient {
  readonly id: string;
}

export interface Tokens {
  readonly access: string;
  readonly refresh: string | undefined;
}

/** One client's way, and what it has learnt on it. */
export interface Walk {
  readonly subject: Subject;
  readonly profile: Profile;
  /** Run when the walk is over, last one first. */
  readonly atEnd: (() => Promise<void>)[];
  /** It answers without a credential. */
  isOpen: boolean;
  challenge: Challenge | undefined;
  metadata: ResourceMetadata | undefined;
  server: ServerMetadata | undefined;
  client: RegisteredClient | undefined;
  tokens: Tokens | undefined;
}

export type Step = (walk: Walk) => Promise<Finding>;

/** Undefined: nothing of it in this walk, and not told. */
export type OptionalStep = (walk: Walk) => Promise<Finding | undefined>;

/** Words of the other side, on their way into a finding. */
export const quoted = (text: string): string => JSON.stringify(cleanText(text, MAX_QUOTED));

/** The URL that the client uses. */
export function urlOf({ subject, profile }: Pick<Walk, 'subject' | 'profile'>): string {
  const { typed } = subject;
  return profile.stripsSlash && subject.url.pathname !== '/' ? typed.replace(/\/$/, '') : typed;
}

export const isOwnMcp = ({ route }: Subject): boolean => route.outcome === 'mcp';

/** Where this system only forwards and asks for nothing, the answers are the target's. */
export const isTargets = ({ route }: Subject): boolean =>
  route.outcome === 'forward' && route.auth?.kind === 'none';

/** A name of this machine, which nobody elsewhere can reach. */
export const isLocalName = ({ hostname }: URL): boolean =>
  hostname === 'localhost' ||
  hostname.endsWith('.localhost') ||
  isLoopbackAddress(hostname.replace(/^\[|\]$/g, ''));
