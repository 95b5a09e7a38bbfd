/** The handshake, with the token, in each era that the client speaks. */
import { isObject, textIn, unexpected } from '../answers.ts';
import type { Era } from '../profiles.ts';
import { hello, versions, withToken } from '../requests.ts';
import { type Finding, isOwnMcp, quoted, type Step, urlOf, type Walk } from '../step.ts';
import type { Answered } from '../wire.ts';
import { withoutTokens } from './token.ts';

export const initialize: Step = async (walk: Walk) => {
  const { tokens, isOpen, profile } = walk;
  if (!tokens && !isOpen) return withoutTokens(walk);
  const answered: string[] = [];
  let fault: Finding | undefined;
  let isInSession = false;
  for (const era of profile.eras) {
    const answer = await greet(walk, era);
    isInSession ||= sessionOf(answer) !== undefined;
    if (isGreeting(answer)) answered.push(versions[era]);
    else fault ??= faultOf(walk, answer, era);
  }
  // A client of both eras goes on with the one that is answered.
  if (answered.length > 0) {
    const found = `answered for ${answered.join(' and ')}`;
    return greeted(found, isInSession ? parted(walk) : undefined);
  }
  return fault ?? { status: 'failed', found: 'no answer' };
};

/** `target`: a session at it may be asked for where nobody knows it. */
const greeted = (
  found: string,
  target: { readonly name: string; readonly replicas: number } | undefined,
): Finding => ({
  requested: 'POST with the token',
  ...(target === undefined
    ? { status: 'ok', found }
    : {
        status: 'warning',
        found: `${found}, with a session (Mcp-Session-Id), which one of ${target.replicas} replicas of ${target.name} keeps: its calls go to all of them in turn`,
        remedy:
          'If the server keeps sessions in its own memory, set sticky ({}) in load_balancing of the proxy (update_proxy), with which all requests go to one replica, or run one',
      }),
});

/** The service whose replicas are asked in turn. */
function parted({ subject: { route, isSticky } }: Walk) {
  const { leads_to: places = [] } = route;
  const [name] = places.map(({ target }) => target);
  const replicas = places.filter(({ target, url }) => target === name && url !== undefined).length;
  return name === undefined || isSticky || replicas < 2 ? undefined : { name, replicas };
}

async function greet(walk: Walk, era: Era): Promise<Answered> {
  const { subject, tokens, profile } = walk;
  const asked = hello(era, profile);
  const url = urlOf(walk);
  const answer = await subject.wire.ask(
    url,
    tokens ? withToken(asked, tokens.access) : { ...asked, once: true },
  );
  const session = sessionOf(answer);
  if (session !== undefined) {
    const headers = {
      'mcp-session-id': session,
      ...(tokens && { authorization: `Bearer ${tokens.access}` }),
    };
    walk.atEnd.push(
      async () =>
        void (await subject.wire.ask(url, { method: 'DELETE', once: true, outlasts: true, headers })),
    );
  }
  return answer;
}

function sessionOf({ headers }: Answered): string | undefined {
  const session = headers['mcp-session-id'];
  return typeof session === 'string' ? session : undefined;
}

const isGreeting = ({ status, json }: Answered): boolean =>
  status === 200 && isObject(json) && isObject(json['result']);

function faultOf({ subject }: Walk, answer: Answered, era: Era): Finding {
  const requested = `POST ${era === 'modern' ? 'server/discover' : 'initialize'} with the token`;
  const failed = { status: 'failed', requested } as const;
  if (answer.status === 401)
    return {
      ...failed,
      found: isOwnMcp(subject)
        ? '401: the token is not for this URL'
        : '401 though the token is good: the target asks for one of its own',
      remedy: isOwnMcp(subject)
        ? 'get_logs with path_prefix of this URL says why'
        : 'Take the sign-in of the target off: it learns from X-Auth-User who it is, and never gets the token',
    };
  if (answer.status === 403)
    return {
      ...failed,
      found: '403: the user who asks is not let in by the policy, or the target refuses',
      remedy: 'get_protection names whom the policy lets in; protect_proxy changes that',
    };
  const isRpc = isObject(answer.json) && isObject(answer.json['error']);
  if (isRpc || answer.status < 300)
    return {
      ...failed,
      found: isRpc ? `refused by the MCP server: ${rpcFault(answer)}` : 'no message of MCP in the answer',
      remedy: isRpc
        ? 'The target has to speak a version that the client does'
        : 'Correct the path: no MCP server answers there',
    };
  return unexpected(subject, answer, requested);
}

function rpcFault({ json, status }: Answered): string {
  const error = isObject(json) && isObject(json['error']) ? json['error'] : {};
  return `${status} ${JSON.stringify(error['code'])} ${quoted(textIn(error, 'message') ?? '')}`;
}
