/**
 * What the conformance suite wants a server to have, on top of whatever it really has. Attached by the `extend` hook
 * of the MCP interface, so that the suite tests our transport, sessions and gate.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  acceptedContent,
  inputRequired,
  inputResponse,
  MissingRequiredClientCapabilityError,
  ProtocolError,
  ProtocolErrorCode,
  type CallToolResult,
  type GetPromptResult,
  type InputRequiredResult,
  type Server,
  type ServerContext,
} from '@modelcontextprotocol/server';
import { isRecord } from '../../src/interfaces/mcp/message.ts';
import type { OwnHandlers } from '../../src/interfaces/mcp/sdk-server.ts';

const PNG =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==';
const WAV = 'UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAAAAA==';
const PAUSE_MS = 50;
const CAPABILITIES_KEY = 'io.modelcontextprotocol/clientCapabilities';

type Result = CallToolResult | InputRequiredResult;
type Arguments = Record<string, unknown>;
type Run = (
  args: Arguments,
  context: ServerContext,
  server: Server,
  own: OwnHandlers,
) => Result | Promise<Result>;
interface Fixture {
  description: string;
  inputSchema: { type: 'object'; [keyword: string]: unknown };
  run: Run;
}

const text = (value: string): CallToolResult => ({ content: [{ type: 'text', text: value }] });
const none = { type: 'object' as const };
const one = (name: string) => ({
  type: 'object' as const,
  properties: { [name]: { type: 'string' } },
  required: [name],
});

function fixture(run: Run, inputSchema: Fixture['inputSchema'] = none): Fixture {
  return { description: 'A fixture of the conformance suite', inputSchema, run };
}

const embedded = (uri: string, mimeType: string, value: string) => ({
  type: 'resource' as const,
  resource: { uri, mimeType, text: value },
});

const content: Record<string, Fixture> = {
  test_simple_text: fixture(() => text('This is a simple text response for testing.')),
  test_image_content: fixture(() => ({ content: [{ type: 'image', data: PNG, mimeType: 'image/png' }] })),
  test_audio_content: fixture(() => ({ content: [{ type: 'audio', data: WAV, mimeType: 'audio/wav' }] })),
  test_embedded_resource: fixture(() => ({
    content: [embedded('test://embedded-resource', 'text/plain', 'This is an embedded resource content.')],
  })),
  test_multiple_content_types: fixture(() => ({
    content: [
      { type: 'text', text: 'Multiple content types test:' },
      { type: 'image', data: PNG, mimeType: 'image/png' },
      embedded('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}'),
    ],
  })),
  test_error_handling: fixture(() => ({
    isError: true,
    ...text('This tool intentionally returns an error for testing'),
  })),
};

const streaming: Record<string, Fixture> = {
  test_tool_with_logging: fixture(async (_args, { mcpReq }) => {
    await mcpReq.log('info', 'Tool execution started');
    await sleep(PAUSE_MS);
    await mcpReq.log('info', 'Tool processing data');
    await sleep(PAUSE_MS);
    await mcpReq.log('info', 'Tool execution completed');
    return text('logged three times');
  }),
  test_logging_tool: fixture(async (_args, { mcpReq }) => {
    await mcpReq.log('info', 'A log message');
    return text('logged once, if asked to');
  }),
  test_tool_with_progress: fixture(async (_args, { mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
      if (progressToken !== undefined)
        await mcpReq.notify({
          method: 'notifications/progress',
          params: { progressToken, progress, total: 100 },
        });
      await sleep(PAUSE_MS);
    }
    return text('progressed');
  }),
  test_reconnection: fixture(async (_args, { http }) => {
    http?.closeSSE?.();
    await sleep(PAUSE_MS);
    return text('reconnected');
  }),
  test_trigger_tool_change: fixture((_args, _context, _server, own) => {
    own.toolsChanged();
    return text('changed');
  }),
};

const nameForm = (message: string, field = 'name') => ({
  message,
  requestedSchema: {
    type: 'object' as const,
    properties: { [field]: { type: 'string' as const } },
    required: [field],
  },
});

const asking: Record<string, Fixture> = {
  test_sampling: fixture(async ({ prompt }, { mcpReq }) => {
    const messages = [{ role: 'user' as const, content: { type: 'text' as const, text: String(prompt) } }];
    const { id: relatedRequestId } = mcpReq;
    const answer = await mcpReq.requestSampling({ messages, maxTokens: 100 }, { relatedRequestId });
    const said = Array.isArray(answer.content) ? answer.content[0] : answer.content;
    return text(`LLM response: ${said?.type === 'text' ? said.text : ''}`);
  }, one('prompt')),
  test_elicitation: fixture(async ({ message }, { mcpReq }) => {
    const requestedSchema = {
      type: 'object' as const,
      properties: {
        username: { type: 'string' as const, description: "User's response" },
        email: { type: 'string' as const, description: "User's email address" },
      },
      required: ['username', 'email'],
    };
    const { id: relatedRequestId } = mcpReq;
    const answer = await mcpReq.elicitInput(
      { message: String(message), requestedSchema },
      { relatedRequestId },
    );
    return text(`User response: action: ${answer.action}, content: ${JSON.stringify(answer.content)}`);
  }, one('message')),
  test_elicitation_sep1034_defaults: fixture((_args, context) =>
    elicit(context, {
      name: { type: 'string', default: 'John Doe' },
      age: { type: 'integer', default: 30 },
      score: { type: 'number', default: 95.5 },
      status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
      verified: { type: 'boolean', default: true },
    }),
  ),
  test_elicitation_sep1330_enums: fixture((_args, context) =>
    elicit(context, {
      untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
      titledSingle: { type: 'string', oneOf: titled('Option') },
      legacyEnum: {
        type: 'string',
        enum: ['opt1', 'opt2', 'opt3'],
        enumNames: ['Option One', 'Option Two', 'Option Three'],
      },
      untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2', 'option3'] } },
      titledMulti: { type: 'array', items: { anyOf: titled('Choice') } },
    }),
  ),
  test_missing_capability: fixture((_args, { mcpReq }) => {
    const envelope: Arguments | undefined = mcpReq.envelope;
    const declared = envelope?.[CAPABILITIES_KEY];
    if (isRecord(declared) && declared.sampling) return text('sampling is there');
    throw new MissingRequiredClientCapabilityError({ requiredCapabilities: { sampling: {} } });
  }),
  test_streaming_elicitation: fixture(() =>
    inputRequired({ inputRequests: { user_name: inputRequired.elicit(nameForm('What is your name?')) } }),
  ),
};

const titled = (word: string) =>
  ['First', 'Second', 'Third'].map((nth, i) => ({ const: `value${i + 1}`, title: `${nth} ${word}` }));

async function elicit(
  { mcpReq }: ServerContext,
  properties: Record<string, unknown>,
): Promise<CallToolResult> {
  // The suite's schemas are wider than the SDK's type for them.
  const requestedSchema = { type: 'object', properties } as unknown as Parameters<
    typeof mcpReq.elicitInput
  >[0] extends { requestedSchema: infer Schema }
    ? Schema
    : never;
  const { id: relatedRequestId } = mcpReq;
  const answer = await mcpReq.elicitInput(
    { message: 'Please fill in', requestedSchema },
    { relatedRequestId },
  );
  return text(`Elicitation completed: action=${answer.action}, content=${JSON.stringify(answer.content)}`);
}

const KEY = randomBytes(32);
const sign = (value: string): string =>
  `${value}.${createHmac('sha256', KEY).update(value).digest('base64url')}`;

/** @throws ProtocolError when the state is not one that `sign` made. */
function verified({ mcpReq }: ServerContext): string | undefined {
  const state = mcpReq.requestState();
  if (state === undefined) return undefined;
  const value = typeof state === 'string' ? state.slice(0, state.lastIndexOf('.')) : '';
  if (state !== sign(value))
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, 'Invalid or expired requestState');
  return value;
}

const confirmForm = {
  message: 'Please confirm',
  requestedSchema: {
    type: 'object' as const,
    properties: { ok: { type: 'boolean' as const } },
    required: ['ok'],
  },
};

const question = (prompt: string, maxTokens: number) =>
  inputRequired.createMessage({
    messages: [{ role: 'user', content: { type: 'text', text: prompt } }],
    maxTokens,
  });

const stringIn = (context: ServerContext, key: string, field: string): string | undefined => {
  const value = acceptedContent(context.mcpReq.inputResponses, key)?.[field];
  return typeof value === 'string' ? value : undefined;
};

const rounds: Record<string, Fixture> = {
  test_input_required_result_elicitation: fixture((_args, context) => {
    const name = stringIn(context, 'user_name', 'name');
    if (name !== undefined) return text(`Hello, ${name}!`);
    return inputRequired({
      inputRequests: { user_name: inputRequired.elicit(nameForm('What is your name?')) },
    });
  }),
  test_input_required_result_sampling: fixture((_args, { mcpReq }) => {
    const answer = inputResponse(mcpReq.inputResponses, 'capital_question');
    if (answer.kind === 'sampling') return text(JSON.stringify(answer.result));
    return inputRequired({
      inputRequests: { capital_question: question('What is the capital of France?', 100) },
    });
  }),
  test_input_required_result_list_roots: fixture((_args, { mcpReq }) => {
    const answer = inputResponse(mcpReq.inputResponses, 'client_roots');
    if (answer.kind === 'roots') return text(JSON.stringify(answer.roots));
    return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } });
  }),
  test_input_required_result_request_state: fixture((_args, context) => askWithState(context, 'state-ok')),
  test_input_required_result_tampered_state: fixture((_args, context) => askWithState(context, 'untampered')),
  test_input_required_result_multiple_inputs: fixture((_args, context) => {
    const { inputResponses } = context.mcpReq;
    const name = stringIn(context, 'user_name', 'name');
    const greeting = inputResponse(inputResponses, 'greeting');
    const roots = inputResponse(inputResponses, 'client_roots');
    if (verified(context) && name && greeting.kind === 'sampling' && roots.kind === 'roots')
      return text(`${name}: ${JSON.stringify(greeting.result)} ${JSON.stringify(roots.roots)}`);
    return inputRequired({
      inputRequests: {
        user_name: inputRequired.elicit(nameForm('What is your name?')),
        greeting: question('Generate a greeting', 50),
        client_roots: inputRequired.listRoots(),
      },
      requestState: sign('three'),
    });
  }),
  test_input_required_result_multi_round: fixture((_args, context) => {
    const round = verified(context);
    if (round === 'two' && stringIn(context, 'step2', 'color')) return text('both rounds are done');
    if (round === 'one' && stringIn(context, 'step1', 'name'))
      return inputRequired({
        inputRequests: {
          step2: inputRequired.elicit(nameForm('Step 2: What is your favorite color?', 'color')),
        },
        requestState: sign('two'),
      });
    return inputRequired({
      inputRequests: { step1: inputRequired.elicit(nameForm('Step 1: What is your name?')) },
      requestState: sign('one'),
    });
  }),
  test_input_required_result_capabilities: fixture((_args, { mcpReq }) => {
    const envelope: Arguments | undefined = mcpReq.envelope;
    const declared = envelope?.[CAPABILITIES_KEY];
    const offered = isRecord(declared) ? declared : {};
    const inputRequests = {
      ...(offered.elicitation !== undefined && {
        user_name: inputRequired.elicit(nameForm('What is your name?')),
      }),
      ...(offered.sampling !== undefined && { greeting: question('Generate a greeting', 50) }),
      ...(offered.roots !== undefined && { client_roots: inputRequired.listRoots() }),
    };
    return Object.keys(inputRequests).length > 0
      ? inputRequired({ inputRequests })
      : text('nothing can be asked');
  }),
};

function askWithState(context: ServerContext, done: string): Result {
  const answer = inputResponse(context.mcpReq.inputResponses, 'confirm');
  if (verified(context) && answer.kind === 'elicit') return text(done);
  return inputRequired({
    inputRequests: { confirm: inputRequired.elicit(confirmForm) },
    requestState: sign(done),
  });
}

const schemas: Record<string, Fixture> = {
  json_schema_2020_12_tool: fixture(() => text('valid'), {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    $defs: {
      address: {
        $anchor: 'addressDef',
        type: 'object',
        properties: { street: { type: 'string' }, city: { type: 'string' } },
      },
    },
    properties: {
      name: { type: 'string' },
      address: { $ref: '#/$defs/address' },
      contactMethod: { type: 'string', enum: ['phone', 'email'] },
      phone: { type: 'string' },
      email: { type: 'string' },
    },
    allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
    if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
    // oxlint-disable-next-line unicorn/no-thenable -- a keyword of JSON Schema
    then: { required: ['phone'] },
    else: { required: ['email'] },
    additionalProperties: false,
  }),
};

const tools = new Map(Object.entries({ ...content, ...streaming, ...asking, ...rounds, ...schemas }));

export function extendWithFixtures(server: Server, own: OwnHandlers): void {
  server.registerCapabilities({
    logging: {},
    completions: {},
    prompts: {},
    resources: { subscribe: true, listChanged: true },
  });
  server.setRequestHandler('tools/list', (_request, context) => ({
    tools: [
      ...own.listTools(context).tools,
      ...[...tools].map(([name, { description, inputSchema }]) => ({ name, description, inputSchema })),
    ],
  }));
  server.setRequestHandler('tools/call', async (request, context) => {
    const { name, arguments: args = {} } = request.params;
    const found = tools.get(name);
    return found ? found.run(args, context, server, own) : own.callTool(request, context);
  });
  server.setRequestHandler('completion/complete', () => ({
    completion: { values: ['paris', 'park', 'party'], total: 3, hasMore: false },
  }));
  addResources(server);
  addPrompts(server);
}

const resources = [
  { uri: 'test://static-text', name: 'Static text', description: 'A text', mimeType: 'text/plain' },
  { uri: 'test://static-binary', name: 'Static binary', description: 'A picture', mimeType: 'image/png' },
  { uri: 'test://watched-resource', name: 'Watched', description: 'Changes', mimeType: 'text/plain' },
];

const TEMPLATE = /^test:\/\/template\/([^/]+)\/data$/;

function addResources(server: Server): void {
  server.setRequestHandler('resources/list', () => ({ resources }));
  server.setRequestHandler('resources/templates/list', () => ({
    resourceTemplates: [
      {
        uriTemplate: 'test://template/{id}/data',
        name: 'Template',
        description: 'Data by id',
        mimeType: 'application/json',
      },
    ],
  }));
  server.setRequestHandler('resources/read', ({ params: { uri } }) => ({ contents: [read(uri)] }));
  server.setRequestHandler('resources/subscribe', () => ({}));
  server.setRequestHandler('resources/unsubscribe', () => ({}));
}

function read(uri: string) {
  const [, id] = TEMPLATE.exec(uri) ?? [];
  if (id !== undefined) {
    const data = { id, templateTest: true, data: `Data for ID: ${id}` };
    return { uri, mimeType: 'application/json', text: JSON.stringify(data) };
  }
  if (uri === 'test://static-binary') return { uri, mimeType: 'image/png', blob: PNG };
  if (uri === 'test://static-text')
    return { uri, mimeType: 'text/plain', text: 'This is the content of the static text resource.' };
  if (uri === 'test://watched-resource') return { uri, mimeType: 'text/plain', text: 'Watched.' };
  throw new ProtocolError(ProtocolErrorCode.InvalidParams, 'Resource not found', { uri });
}

const prompts = [
  { name: 'test_simple_prompt', description: 'Simple' },
  {
    name: 'test_prompt_with_arguments',
    description: 'With arguments',
    arguments: [
      { name: 'arg1', description: 'First test argument', required: true },
      { name: 'arg2', description: 'Second test argument', required: true },
    ],
  },
  {
    name: 'test_prompt_with_embedded_resource',
    description: 'With a resource',
    arguments: [{ name: 'resourceUri', description: 'URI of the resource', required: true }],
  },
  { name: 'test_prompt_with_image', description: 'With a picture' },
  { name: 'test_input_required_result_prompt', description: 'Asks first' },
];

type Block = GetPromptResult['messages'][number]['content'];
const said = (...blocks: Block[]): GetPromptResult => ({
  messages: blocks.map((block) => ({ role: 'user', content: block })),
});

function addPrompts(server: Server): void {
  server.setRequestHandler('prompts/list', () => ({ prompts }));
  server.setRequestHandler('prompts/get', ({ params: { name, arguments: args = {} } }, context) => {
    switch (name) {
      case 'test_simple_prompt':
        return said({ type: 'text', text: 'This is a simple prompt for testing.' });
      case 'test_prompt_with_arguments':
        return said({
          type: 'text',
          text: `Prompt with arguments: arg1='${args.arg1}', arg2='${args.arg2}'`,
        });
      case 'test_prompt_with_embedded_resource':
        return said(
          embedded(args.resourceUri ?? '', 'text/plain', 'Embedded resource content for testing.'),
          { type: 'text', text: 'Please process the embedded resource above.' },
        );
      case 'test_prompt_with_image':
        return said(
          { type: 'image', data: PNG, mimeType: 'image/png' },
          { type: 'text', text: 'Please analyze the image above.' },
        );
      case 'test_input_required_result_prompt': {
        const known = stringIn(context, 'user_context', 'context');
        if (known !== undefined) return said({ type: 'text', text: `In the context of ${known}` });
        const form = nameForm('What context should the prompt use?', 'context');
        return inputRequired({ inputRequests: { user_context: inputRequired.elicit(form) } });
      }
      default:
        throw new ProtocolError(ProtocolErrorCode.InvalidParams, `Unknown prompt: ${name}`);
    }
  });
}
