/** The way to a provider elsewhere: from the pages that ask who somebody is, to its own. `upstream-return.ts` is the way back. */
import { html } from 'hono/html';
import { AppError, errorSurface } from '../../core/errors.ts';
import { callbackPathOf } from '../paths.ts';
import { UpstreamFault } from '../upstreams/upstream.ts';
import { TOO_MANY } from './attempts.ts';
import { type Aim, ERRAND_MS } from './errands.ts';
import { type Markup, sendPage, sentence } from './page.ts';
import { hiddenFields } from './passkey-form.ts';
import { report, type Upstreams, type Visit } from './scene.ts';
import { whoIsSignedIn } from './session.ts';

interface Again {
  readonly fault: string;
  readonly status: number;
}

interface ProviderForm {
  readonly action: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly upstreams: Upstreams['list'];
  /** What pressing does, before the name of the provider. */
  readonly verb: string;
}

export const providerForm = ({ action, fields, upstreams, verb }: ProviderForm): Markup | '' =>
  upstreams.length === 0
    ? ''
    : html`<form method="post" action="${action}">
${hiddenFields(fields)}
${upstreams.map(({ name, title }) => html`<button name="provider" value="${name}">${verb} ${title}</button>`)}
</form>`;

/** `refuse` shows the page anew from which somebody wanted to go. */
export async function goTo(
  visit: Visit,
  form: URLSearchParams,
  aim: Aim,
  refuse: (again: Again) => Promise<void>,
): Promise<void> {
  const { context, options, provider: library } = visit;
  const upstream = options.upstreams.get(form.get('provider') ?? '');
  const { name, title } = upstream.settings;
  try {
    if (!options.attempts.take(context.ip)) throw new AppError('RATE_LIMITED', TOO_MANY);
    const redirectUri = `${library.issuer}${callbackPathOf(name)}`;
    const isAgain = (await whoIsSignedIn(visit)) !== undefined;
    const { url, proof } = await upstream.begin({ redirectUri, isAgain });
    setCookie(visit, options.errands.begin({ provider: name, aim, proof }));
    return await sendPage(context, {
      title: `On to ${title}`,
      goOn: url,
      body: html`<h1>On to ${title}</h1>
<p>You are being sent to ${title}, and come back here afterwards.</p>
<a class="button" href="${url}">Go on</a>`,
    });
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause;
    tellRefusal(visit, name, cause);
    return refuse({ fault: sentence(cause.message), status: errorSurface[cause.code].status });
  }
}

export function tellRefusal(visit: Visit, provider: string, fault: AppError): void {
  const reason = fault instanceof UpstreamFault ? fault.reason : fault.message;
  report(visit, { event: 'sign-in refused', outcome: fault.code, detail: { by: 'fed', provider, reason } });
}

/** Of this browser. `__Host-`: no other hostname can set it. */
const cookieNameOf = ({ provider }: Visit): string =>
  provider.issuer.startsWith('https:') ? '__Host-ohp_upstream' : 'ohp_upstream';

/** Lax, because the way back comes from elsewhere. */
const cookieOptions = ({ provider }: Visit) =>
  ({
    path: '/',
    httpOnly: true,
    sameSite: 'lax',
    secure: provider.issuer.startsWith('https:'),
    signed: false,
    overwrite: true,
  }) as const;

function setCookie(visit: Visit, value: string): void {
  visit.context.cookies.set(cookieNameOf(visit), value, { ...cookieOptions(visit), maxAge: ERRAND_MS });
}

/** It is gone with that. */
export function takeCookie(visit: Visit): string {
  const { cookies } = visit.context;
  const value = cookies.get(cookieNameOf(visit), { signed: false }) ?? '';
  cookies.set(cookieNameOf(visit), null, cookieOptions(visit));
  return value;
}
