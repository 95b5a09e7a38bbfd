/** Whether anything answers at the URL, by the decisions of the gateway itself (`test_route`). */
import { DISCOVERY } from '../../oauth/paths.ts';
import { type Finding, quoted, type Step, type Subject, type Walk } from '../step.ts';

export const served: Step = async ({ subject }: Walk) => {
  const requested = `test_route ${quoted(subject.typed)}`;
  return { requested, ...decide(subject) };
};

function decide(subject: Subject): Finding {
  const { route, url } = subject;
  switch (route.outcome) {
    case 'mcp':
      return { status: 'ok', found: route.reason };
    case 'forward':
      return forwarded(subject);
    case 'redirect':
      return failed(`a redirect: ${route.reason}`, `Give the client ${route.redirect_to ?? 'the https URL'}`);
    case 'system':
      return failed(
        `${route.reason}: no MCP endpoint`,
        `Give the client ${url.origin}/mcp${DISCOVERY.some((path) => url.pathname.startsWith(path)) ? ', and not a metadata document' : ''}`,
      );
    case 'bad_request':
      return failed(route.reason, 'Correct the URL');
    case 'not_served':
      return notServed(subject);
  }
}

const failed = (found: string, remedy: string): Finding => ({ status: 'failed', found, remedy });

function forwarded({ route, url }: Subject): Finding {
  const { auth } = route;
  if (auth?.kind === 'token')
    return failed(
      'the proxy wants an API token (auth: token), and no client can sign in for one',
      `protect_proxy ${url.hostname}: lets people sign in`,
    );
  if (auth?.kind === 'oauth' && auth['mode'] === 'redirect')
    return failed(
      'the policy is for browsers (mode: redirect)',
      `protect_proxy ${url.hostname} with mode auto: lets programs come with a token as well`,
    );
  return { status: 'ok', found: `${route.reason}; policy ${auth?.kind ?? 'of somebody else'}` };
}

function notServed({ route, url, proxy, publicUrl }: Subject): Finding {
  const { hostname } = url;
  if (proxy === 'disabled')
    return failed(`the proxy of ${hostname} is disabled`, `update_proxy ${hostname} with enabled: true`);
  const off = /\benable_https?\b/.exec(route.reason)?.[0];
  if (off !== undefined) return failed(route.reason, `update_proxy ${hostname} with ${off}: true`);
  if (proxy === 'enabled')
    return failed(route.reason, `Give the client ${url.href.replace(/^http:/, 'https:')}`);
  if (publicUrl?.hostname === hostname)
    return failed(
      `${hostname} is control.public_url, and no control host`,
      `Add ${hostname} to control.hosts and start again`,
    );
  return failed(
    `nothing here serves ${hostname}`,
    'create_proxy for it, or correct the hostname. A server elsewhere is not asked from here: this process connects to its own listeners only',
  );
}
