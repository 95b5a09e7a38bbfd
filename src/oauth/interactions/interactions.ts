/**
 * Sign-in, consent and the person's own account: what they see between a client's request and its answer, and besides.
 * Runs in front of the library, which keeps the state (in a cookie bound to this browser) and goes on when it is told
 * the outcome. Nothing is granted before the person has said so here.
 */
import type Provider from 'oidc-provider';
import type { KoaContextWithOIDC } from 'oidc-provider';
import { AppError, errorSurface, messageOf } from '../../core/errors.ts';
import {
  ACCOUNT_PATH,
  CONFIRM_PREFIX,
  INTERACTION_PREFIX,
  INVITE_PATH,
  PASSKEY_SCRIPT_PATH,
  UPSTREAM_PREFIX,
} from '../paths.ts';
import type { Middleware } from '../server.ts';
import { playAccount } from './account.ts';
import { playConfirm } from './confirm.ts';
import { decide, showConsent } from './consent.ts';
import { checkToken, makeFirstUser, showFirstUser } from './first-user.ts';
import { playInvite } from './invite.ts';
import { pages } from './pages.ts';
import { sendPasskeyScript } from './passkey-script.ts';
import { readForm } from './requests.ts';
import { type InteractionOptions, requireToken, type Scene, type Visit } from './scene.ts';
import { showSignIn, signIn, signInByPasskey, signInElsewhere } from './sign-in.ts';
import { playReturn } from './upstream-return.ts';

export type { Consent } from './scene.ts';

export const createInteractions =
  (options: InteractionOptions) =>
  (provider: Provider): Middleware =>
  async (context, next) => {
    const play = playerOf(context.path);
    if (!play) return next();
    // The library gives its own routes this context; this one stands in front of them.
    const own = context as unknown as KoaContextWithOIDC;
    try {
      await play({ context: own, provider, options });
    } catch (cause) {
      const code = cause instanceof AppError ? cause.code : 'session_not_found';
      own.status = cause instanceof AppError ? errorSurface[cause.code].status : 400;
      await pages.error(own, { error: code, error_description: messageOf(cause) });
    }
  };

function playerOf(path: string): ((visit: Visit) => Promise<void>) | undefined {
  if (path.startsWith(INTERACTION_PREFIX)) return playInteraction;
  if (path === INVITE_PATH || path.startsWith(`${INVITE_PATH}/`)) return playInvite;
  if (path === ACCOUNT_PATH || path.startsWith(`${ACCOUNT_PATH}/`)) return playAccount;
  if (path.startsWith(CONFIRM_PREFIX)) return playConfirm;
  if (path.startsWith(UPSTREAM_PREFIX)) return playReturn;
  return path === PASSKEY_SCRIPT_PATH ? async ({ context }) => sendPasskeyScript(context) : undefined;
}

interface Action {
  /** At which question of the library it is an answer. */
  readonly prompt: string;
  readonly play: (scene: Scene, form: URLSearchParams) => Promise<void>;
}

const actions: ReadonlyMap<string, Action> = new Map([
  ['sign-in', { prompt: 'login', play: signIn }],
  ['passkey', { prompt: 'login', play: signInByPasskey }],
  ['upstream', { prompt: 'login', play: signInElsewhere }],
  ['first-user', { prompt: 'login', play: checkToken }],
  ['first-account', { prompt: 'login', play: makeFirstUser }],
  ['consent', { prompt: 'consent', play: decide }],
]);

async function playInteraction({ context, provider, options }: Visit): Promise<void> {
  const [uid = '', action = ''] = context.path.slice(INTERACTION_PREFIX.length).split('/');
  const details = await provider.interactionDetails(context.req, context.res);
  if (details.uid !== uid) throw new Error('another sign-in was begun in this browser since');
  const scene: Scene = { context, provider, details, options };
  if (context.method === 'GET' && action === '') return show(scene);
  if (context.method !== 'POST') throw new AppError('NOT_FOUND', 'there is no such page');
  const form = await readForm(context, provider.issuer);
  requireToken(options, form, uid);
  const run = actions.get(action);
  if (!run || run.prompt !== details.prompt.name)
    throw new AppError('NOT_FOUND', 'there is no such step now');
  return run.play(scene, form);
}

function show(scene: Scene): Promise<void> {
  if (scene.details.prompt.name === 'consent') return showConsent(scene);
  return scene.options.people.count === 0 ? showFirstUser(scene) : showSignIn(scene);
}
