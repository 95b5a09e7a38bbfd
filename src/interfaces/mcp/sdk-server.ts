/**
 * The SDK's low-level server, for everything that the plain dispatcher leaves to it: the messages it doesn't know,
 * the malformed ones, and the calls in which a person is asked something.
 */
import {
  acceptedContent,
  inputRequired,
  inputResponse,
  ProtocolError,
  ProtocolErrorCode,
  Server,
  type CallToolRequest,
  type CallToolResult,
  type InputRequiredResult,
  type ListToolsResult,
  type ServerContext,
} from '@modelcontextprotocol/server';
import { z } from 'zod';
import type { Clock } from '../../core/clock.ts';
import { limits } from '../../core/limits.ts';
import { AppError } from '../../core/errors.ts';
import type { Progress } from '../../core/operation.ts';
import { callTool, findTool, type Scope } from './calls.ts';
import { type Answer, type Ask, askingBy, confirmationForm } from './confirm.ts';
import { isId } from './message.ts';
import { CAPABILITIES, EXTENSIONS, INSTRUCTIONS, type ServerProfile } from './profile.ts';
import type { Receipt, RequestStates } from './request-state.ts';
import { listResources, listTemplates, readResource, requireFollowable } from './resources.ts';
import { type ToolResult, toObject } from './results.ts';
import { throttled } from './progress.ts';
import { TASK_METHODS, type Tasks } from './tasks.ts';
import { ANSWER_MS, DISCOVER_TTL_MS, LEGACY_VERSIONS, LIST_TTL_MS, type McpOptions } from './settings.ts';

/** For `extend`: what the server answers where a fixture has nothing of its own to say. */
export interface OwnHandlers {
  listTools(context: ServerContext): ListToolsResult;
  callTool(request: CallToolRequest, context: ServerContext): Promise<CallToolResult | InputRequiredResult>;
  /** Tells every client that listens; for fixtures, whose tools no list knows. */
  toolsChanged(): void;
}

export interface SdkServerParts {
  readonly options: McpOptions;
  readonly profile: ServerProfile;
  readonly states: RequestStates;
  readonly onError: (error: Error) => void;
  readonly toolsChanged: () => void;
  readonly tasks: Tasks;
  /** Aborts when no answer to a question can come any more, because the process is about to stop. */
  readonly stopping: AbortSignal;
}

export type CreateSdkServer = (
  era: 'modern' | 'legacy',
  scopeOf: (context: ServerContext) => Scope,
) => Server;

export function createSdkServers({ options, profile, states, ...parts }: SdkServerParts): CreateSdkServer {
  return (era, scopeOf) => {
    const server = new Server(profile, {
      capabilities: era === 'modern' ? { ...CAPABILITIES, extensions: EXTENSIONS } : CAPABILITIES,
      instructions: INSTRUCTIONS,
      supportedProtocolVersions: [...LEGACY_VERSIONS],
      cacheHints: {
        'tools/list': { ttlMs: LIST_TTL_MS, cacheScope: 'private' },
        'resources/list': { ttlMs: LIST_TTL_MS, cacheScope: 'private' },
        'resources/templates/list': { ttlMs: LIST_TTL_MS, cacheScope: 'private' },
        'resources/read': { ttlMs: 0, cacheScope: 'private' },
        'server/discover': { ttlMs: DISCOVER_TTL_MS, cacheScope: 'private' },
      },
    });
    server.onerror = parts.onError;
    const own: OwnHandlers = {
      listTools(context) {
        const { view, knowsIcons } = scopeOf(context);
        return { tools: [...(knowsIcons ? view.tools : view.toolsWithoutIcons)] };
      },
      callTool: (request, context) => {
        const asking = era === 'modern' ? askByResult(states) : askByRequest(parts.stopping);
        return serveCall(options, { scope: scopeOf(context), request, context, asking, tasks: parts.tasks });
      },
      toolsChanged: parts.toolsChanged,
    };
    server.setRequestHandler('tools/list', ({ params }, context) => {
      requireFirstPage('tools/list', params);
      return own.listTools(context);
    });
    server.setRequestHandler('tools/call', (request, context) => own.callTool(request, context));
    addResources(server, options, scopeOf);
    if (era === 'legacy') addFollowing(server, scopeOf);
    if (era === 'modern')
      for (const method of TASK_METHODS)
        server.setRequestHandler(method, { params: taskParams }, ({ taskId }, context) =>
          parts.tasks.answer(method, taskId, scopeOf(context)),
        );
    options.extend?.(server, own);
    return server;
  };
}

/** The lists have one page, so no cursor is one of ours. @see MCP 2026-07-28, Pagination */
function requireFirstPage(method: string, params: { cursor?: string | undefined } | undefined): void {
  if (params?.cursor !== undefined)
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, `cursor: ${method} has a single page`);
}

type ScopeOf = (context: ServerContext) => Scope;

function addResources(server: Server, options: McpOptions, scopeOf: ScopeOf): void {
  server.setRequestHandler('resources/list', ({ params }, context) => {
    requireFirstPage('resources/list', params);
    return { resources: listResources(scopeOf(context)) };
  });
  server.setRequestHandler('resources/templates/list', ({ params }, context) => {
    requireFirstPage('resources/templates/list', params);
    return { resourceTemplates: listTemplates(scopeOf(context)) };
  });
  server.setRequestHandler('resources/read', ({ params: { uri } }, context) =>
    readResource(options, scopeOf(context), uri, context.mcpReq.signal),
  );
}

/** Of the legacy era; of the modern one it is a part of `subscriptions/listen`. */
function addFollowing(server: Server, scopeOf: ScopeOf): void {
  server.setRequestHandler('resources/subscribe', async ({ params: { uri } }, context) => {
    const scope = scopeOf(context);
    requireFollowable(scope, uri);
    await requireFollower(scope).follow(uri);
    return {};
  });
  server.setRequestHandler('resources/unsubscribe', async ({ params: { uri } }, context) => {
    await requireFollower(scopeOf(context)).unfollow(uri);
    return {};
  });
}

function requireFollower({ follower }: Scope): NonNullable<Scope['follower']> {
  if (follower) return follower;
  throw new ProtocolError(
    ProtocolErrorCode.InvalidRequest,
    'only a session can follow a resource: send initialize, and its Mcp-Session-Id with this',
  );
}

/** `inputResponses` answer nothing here, for no task of ours asks. */
const taskParams = z.looseObject({ taskId: z.string().max(limits.shortText) });

/** How a person is asked; `pending` is a question that the result has to carry. */
interface Asking {
  ask: (
    scope: Scope,
    context: ServerContext,
  ) => { confirm: Ask | undefined; pending?: () => Pending | undefined };
}

interface Pending {
  readonly message: string;
  readonly state: string;
}

interface CallParts {
  scope: Scope;
  request: CallToolRequest;
  context: ServerContext;
  asking: Asking;
  tasks: Tasks;
}

async function serveCall(
  { dispatch, clock, settings }: McpOptions,
  { scope, request: { params }, context, asking, tasks }: CallParts,
): Promise<CallToolResult | InputRequiredResult> {
  const tool = findTool(scope, params.name);
  if (tool === undefined) {
    scope.facts.outcome = 'NOT_FOUND';
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, `Unknown tool: ${JSON.stringify(params.name)}`);
  }
  const task = await tasks.begin(scope, { tool, raw: params.arguments });
  // The SDK's type of a result knows no extension; its encoder lets `resultType` through.
  if (task) return task as unknown as CallToolResult;
  const { confirm, pending } = scope.canAsk ? asking.ask(scope, context) : NOBODY;
  const result = await callTool(
    dispatch,
    scope,
    { tool, raw: params.arguments },
    {
      signal: context.mcpReq.signal,
      progress: progressOf(context, clock),
      ...askingBy(settings.confirm, confirm),
    },
  );
  const question = pending?.();
  return question ? askInResult(question) : resultOf(result);
}

const NOBODY: ReturnType<Asking['ask']> = { confirm: undefined };

const resultOf = (result: ToolResult): CallToolResult => toObject(result);

function progressOf(context: ServerContext, clock: Clock): ((update: Progress) => void) | undefined {
  const progressToken = context.mcpReq._meta?.progressToken;
  if (!isId(progressToken)) return undefined;
  return throttled(clock, ({ progress, total, message }) => {
    const params = {
      progressToken,
      progress,
      ...(total !== undefined && { total }),
      ...(message !== undefined && { message }),
    };
    // A client that is gone misses it; the result is what counts.
    context.mcpReq.notify({ method: 'notifications/progress', params }).catch(() => undefined);
  });
}

/** Legacy era: a request of ours on the stream of the call, answered while the call waits. */
function askByRequest(stopping: AbortSignal): Asking {
  return {
    ask: (_scope, { mcpReq }) => ({
      confirm: async ({ message }): Promise<Answer> => {
        const { id: relatedRequestId } = mcpReq;
        const signal = AbortSignal.any([mcpReq.signal, stopping]);
        try {
          return await mcpReq.elicitInput(confirmationForm(message), {
            relatedRequestId,
            signal,
            timeout: ANSWER_MS,
          });
        } catch (cause) {
          // Of our own side: it was never asked.
          if (cause instanceof AppError) throw cause;
          throw new AppError('CONFIRMATION_REQUIRED', 'the question was not answered; nothing was done', {
            cause,
          });
        }
      },
    }),
  };
}

/** The name of the one question, in both directions. */
const QUESTION = 'confirmation';

/** Modern era: the call ends with the question and comes again with the answer. */
function askByResult(states: RequestStates): Asking {
  return {
    ask({ principal }, { mcpReq }) {
      const receipt = readState(states, mcpReq.requestState(), principal.id);
      const answer = inputResponse(mcpReq.inputResponses, QUESTION);
      let pending: Pending | undefined;
      return {
        pending: () => pending,
        confirm: async ({ operation, inputDigest, message }) => {
          const wanted: Receipt = { principalId: principal.id, operation, inputDigest };
          if (receipt && answer.kind === 'elicit' && isSame(receipt, wanted)) {
            receipt.use();
            const content = acceptedContent(mcpReq.inputResponses, QUESTION);
            return { action: answer.action, content };
          }
          pending = { message, state: states.issue(wanted) };
          throw new AppError('CONFIRMATION_REQUIRED', 'a person is asked first');
        },
      };
    },
  };
}

/** @throws ProtocolError for a state that is not ours, in the SDK's words. */
function readState(states: RequestStates, state: unknown, principalId: string) {
  if (state === undefined) return undefined;
  const receipt = typeof state === 'string' ? states.read(state, principalId) : undefined;
  if (receipt) return receipt;
  throw new ProtocolError(ProtocolErrorCode.InvalidParams, 'Invalid or expired requestState', {
    reason: 'invalid_request_state',
  });
}

const isSame = (a: Receipt, b: Receipt): boolean =>
  a.operation === b.operation && a.inputDigest === b.inputDigest;

function askInResult({ message, state }: Pending): InputRequiredResult {
  return inputRequired({
    inputRequests: { [QUESTION]: inputRequired.elicit(confirmationForm(message)) },
    requestState: state,
  });
}
