/**
 * Resources: of the operations those that are one, each read by `dispatch` as any call. Who may not run the operation
 * does not learn that there is a resource. Both eras read alike; how a client follows one is in `session.ts` and
 * `subscriptions.ts`. Called by `sdk-server.ts`. @see MCP 2025-11-25 and 2026-07-28, Resources
 */
import {
  ProtocolError,
  ProtocolErrorCode,
  type ReadResourceResult,
  type Resource,
  ResourceNotFoundError,
  type ResourceTemplateType,
} from '@modelcontextprotocol/server';
import { mayRun } from '../../core/dispatch.ts';
import { toAppError } from '../../core/errors.ts';
import type { AnyOperation } from '../../core/operation.ts';
import type { Principal } from '../../core/principal.ts';
import { cleanText } from '../../core/untrusted.ts';
import { callTool, type Scope } from './calls.ts';
import { UNTRUSTED_NOTICE } from './results.ts';
import type { McpOptions } from './settings.ts';
import type { View } from './views.ts';

const MAX_SHOWN_URI = 200;
/** A filter, percent-encoded. */
const MAX_URI = 4096;
/** That one principal can follow, over all its sessions and subscriptions. */
export const MAX_FOLLOWED = 20;

/** Somebody who follows a resource. */
export interface Follower {
  /** The principal; of those without a credential each network by itself. */
  readonly holder: string;
  readonly uri: string;
  readonly principal: Principal;
  readonly tell: () => void;
}

/** Of what each holder follows the first, as many as it can. */
export function withinLimit<Following extends Follower>(followers: readonly Following[]): Following[] {
  const followed = new Map<string, Set<string>>();
  return followers.filter(({ holder, uri }) => {
    const own = followed.get(holder) ?? new Set();
    followed.set(holder, own);
    if (own.size < MAX_FOLLOWED) own.add(uri);
    return own.has(uri);
  });
}

/** What a client that follows a resource is told by: nothing of what is in it. */
export const updatedMessage = (uri: string): string =>
  JSON.stringify({ jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri } });

export function listResources({ view, principal }: Pick<Scope, 'view' | 'principal'>): Resource[] {
  return [...view.operations.values()].flatMap((operation) => {
    const { resource: uri, name, title, description } = operation;
    if (uri === undefined || !mayRun(operation, principal)) return [];
    return [{ uri, name, title, description, mimeType: 'application/json' }];
  });
}

export function listTemplates({
  view,
  principal,
}: Pick<Scope, 'view' | 'principal'>): ResourceTemplateType[] {
  return [...view.operations.values()].flatMap((operation) => {
    const { resource, resourceBy, name, title, description } = operation;
    if (resource === undefined || !resourceBy || !mayRun(operation, principal)) return [];
    const uriTemplate = `${resource}{?${resourceBy.argument}}`;
    return [{ uriTemplate, name, title, description, mimeType: 'application/json' }];
  });
}

/** What a URI is, and with which arguments it is read. */
export interface FoundResource {
  readonly operation: AnyOperation;
  readonly raw: Readonly<Record<string, string>>;
}

/** Undefined for what there is not, and for who may not know that there is. */
export function findResource(
  { view, principal }: { view: Pick<View, 'operations'>; principal: Principal },
  uri: string,
): FoundResource | undefined {
  for (const operation of view.operations.values()) {
    const raw = argumentsIn(operation, uri);
    if (raw) return mayRun(operation, principal) ? { operation, raw } : undefined;
  }
  return undefined;
}

/** Undefined when the URI is none of this operation's. */
export function argumentsIn(
  { resource, resourceBy }: Pick<AnyOperation, 'resource' | 'resourceBy'>,
  uri: string,
): Record<string, string> | undefined {
  if (uri === resource) return resource === undefined ? undefined : {};
  if (resource === undefined || !resourceBy || uri.length > MAX_URI) return undefined;
  const prefix = `${resource}?${resourceBy.argument}=`;
  if (!uri.startsWith(prefix)) return undefined;
  const values = [...new URLSearchParams(uri.slice(resource.length + 1))];
  const [[name, value] = []] = values;
  return values.length === 1 && name !== undefined && value !== undefined ? { [name]: value } : undefined;
}

/** @throws ResourceNotFoundError, or ProtocolError for arguments that can't be followed. */
export function requireFollowable(scope: Scope, uri: string): void {
  const {
    operation: { resourceBy },
    raw,
  } = requireResource(scope, uri);
  try {
    for (const value of Object.values(raw)) resourceBy?.check(value);
  } catch (cause) {
    const { code, message } = toAppError(cause);
    scope.facts.outcome = code;
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, message);
  }
}

function requireResource(scope: Scope, uri: string): FoundResource {
  const found = findResource(scope, uri);
  if (found) return found;
  scope.facts.outcome = 'NOT_FOUND';
  const shown = cleanText(uri, MAX_SHOWN_URI);
  throw new ResourceNotFoundError(shown, `Resource not found: ${shown}`);
}

/** What the operation answers with the arguments of the URI; before text of strangers it says so. */
export async function readResource(
  { dispatch }: Pick<McpOptions, 'dispatch'>,
  scope: Scope,
  uri: string,
  signal: AbortSignal,
): Promise<ReadResourceResult> {
  const { operation: tool, raw } = requireResource(scope, uri);
  // To read is never asked about.
  const options = { signal, confirm: undefined, insist: undefined };
  const { structured, error, texts } = await callTool(dispatch, scope, { tool, raw }, options);
  if (error || structured === undefined) {
    const code = error?.code === 'INVALID_INPUT' ? 'InvalidParams' : 'InternalError';
    // With the sentence before it, where it quotes somebody.
    throw new ProtocolError(
      ProtocolErrorCode[code],
      texts.length > 0 ? texts.join('\n') : toAppError(undefined).message,
    );
  }
  const json = { uri, mimeType: 'application/json', text: structured };
  const notice = { uri, mimeType: 'text/plain', text: UNTRUSTED_NOTICE };
  return { contents: tool.untrusted === true ? [notice, json] : [json] };
}
