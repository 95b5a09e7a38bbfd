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

/** Undefined for what there is not, and for who may not know that there is. */
export function findResource(
  { view, principal }: { view: Pick<View, 'operations'>; principal: Principal },
  uri: string,
): AnyOperation | undefined {
  for (const operation of view.operations.values())
    if (operation.resource === uri) return mayRun(operation, principal) ? operation : undefined;
  return undefined;
}

/** @throws ResourceNotFoundError */
export function requireResource(scope: Scope, uri: string): AnyOperation {
  const operation = findResource(scope, uri);
  if (operation) return operation;
  scope.facts.outcome = 'NOT_FOUND';
  const shown = cleanText(uri, MAX_SHOWN_URI);
  throw new ResourceNotFoundError(shown, `Resource not found: ${shown}`);
}

/** What the operation answers without arguments; before text of strangers it says so. */
export async function readResource(
  { dispatch }: Pick<McpOptions, 'dispatch'>,
  scope: Scope,
  uri: string,
  signal: AbortSignal,
): Promise<ReadResourceResult> {
  const tool = requireResource(scope, uri);
  // To read is never asked about.
  const options = { signal, confirm: undefined, insist: undefined };
  const { structured, error, texts } = await callTool(dispatch, scope, { tool, raw: {} }, options);
  if (error || structured === undefined)
    throw new ProtocolError(ProtocolErrorCode.InternalError, texts.at(-1) ?? toAppError(undefined).message);
  const json = { uri, mimeType: 'application/json', text: structured };
  const notice = { uri, mimeType: 'text/plain', text: UNTRUSTED_NOTICE };
  return { contents: tool.untrusted === true ? [notice, json] : [json] };
}
