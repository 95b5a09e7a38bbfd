/** What the specifications demand of the authorization server and of its resources, and the test that shows it. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const server = 'src/oauth/server.test.ts';
const registration = 'src/oauth/registration.test.ts';
const dpop = 'src/oauth/dpop.test.ts';
const metadata = 'src/oauth/safe-fetch.test.ts';
const redirects = 'src/oauth/redirects.test.ts';
const gateway = 'src/gateway/gateway.mcp.test.ts';
const grants = 'test/oauth/grants.test.ts';
const codes = 'test/incidents/row-07-codes.test.ts';
const refresh = 'test/incidents/row-08-refresh.test.ts';
const outside = 'test/incidents/row-09-redirects.test.ts';
const audience = 'test/incidents/row-10-audience.test.ts';
const elsewhere = 'test/incidents/row-06-upstream.test.ts';
const oidc = 'src/oauth/upstreams/oidc.test.ts';
const upstream = 'src/oauth/upstreams/upstream.contract.ts';
const consent = 'test/incidents/row-06-confused-deputy.test.ts';
const advertised = 'test/oauth/advertised.test.ts';
const accessTokens = 'src/oauth/access-tokens.test.ts';
const protection = 'src/protection/protection.test.ts';
const sdk = 'test/oauth/sdk-clients.test.ts';
const remote = 'test/oauth/mcp-remote.test.ts';
const walks = 'test/connectors/passes.test.ts';

type Row = readonly [requirement: string, section: string, file: string, title: string];

// biome-ignore format: a table is read by its columns
const rows: readonly Row[] = [
  ['PKCE with S256 only', 'OAuth 2.1 §4.1.1; RFC 7636 §4.4.1', server, 'no challenge, an empty one, plain and unknown methods are refused'],
  ['… by route', 'RFC 9700 §2.1.1', codes, 'incident 7: an authorization request with ${what} gets no code'],
  ['… and advertised', 'RFC 8414 §2; MCP 2026-07-28, Authorization Code Protection', advertised, 'the metadata advertises what clients look for, over HTTPS, and nothing in it is null'],
  ['the verifier is needed', 'RFC 7636 §4.6', codes, 'incident 7: a code without its verifier, or with another one, is worth nothing'],
  ['… and a wrong one uses up no code', 'RFC 7636 §4.6', codes, 'incident 7: a code is not used up by a wrong verifier'],
  ['a code is used once', 'RFC 6749 §4.1.2', grants, 'of 200 redemptions of one code at the same time exactly one gets a token'],
  ['a replayed code ends what it gave', 'RFC 6749 §10.5', codes, 'incident 7: a code that comes again ends what it gave'],
  ['a code is of one client and redirect URI', 'RFC 6749 §4.1.3', codes, 'incident 7: a code is for one client and one redirect URI'],
  ['redirect URIs are HTTPS, loopback, or an app’s', 'OAuth 2.1 §2.3.1; RFC 8252 §7', redirects, 'https, plain http to the user’s own machine, and schemes of apps can be registered'],
  ['redirect URIs to the letter', 'RFC 9700 §2.1', outside, 'incident 9: a redirect URI in another spelling, or of somebody else, is no way out'],
  ['… as a property', 'RFC 9700 §4.1.3', redirects, 'a redirect URI is compared to the letter'],
  ['but for the port on loopback', 'RFC 8252 §7.3', redirects, 'only the port may be another, and only on the user’s own machine'],
  ['no open redirect', 'RFC 6749 §4.1.2.1; RFC 9700 §4.11', outside, 'incident 9: a fault of an unknown client is shown here, and sends nobody anywhere'],
  ['issuer in the answer', 'RFC 9207 §2', server, 'code, PKCE and a resource give an access token for that resource'],
  ['… and in an error', 'RFC 9207 §2', server, 'an error on the way back names the issuer as well'],
  ['answers are not stored', 'RFC 6749 §5.1', server, 'code, PKCE and a resource give an access token for that resource'],
  ['a client has to prove its secret', 'RFC 6749 §2.3', outside, 'incident 9: a client with a secret is nobody without it'],
  ['… or its key', 'RFC 7523 §2.2; OIDC Core §9', advertised, 'a client proves itself by a key of its own (private_key_jwt), and by no other'],
  ['a client that is gone is told so', 'RFC 6749 §5.2', grants, 'a client that was deleted is told to register again: 401 invalid_client'],
  ['a default scope', 'RFC 6749 §3.3', server, 'who asks without a scope gets viewer'],
  ['refresh tokens are rotated, with a grace', 'RFC 9700 §2.2.2', grants, '50 refreshes at the same time all work; after kill -9 so do their successors; a replay ends them all'],
  ['a replay ends the family', 'RFC 9700 §4.14.2', server, 'a refresh token that comes again after the grace ends its whole family'],
  ['a refresh token is of one client', 'RFC 6749 §6', refresh, 'incident 8: a refresh token gives a stranger nothing, and stays good for its own client'],
  ['a refresh widens nothing', 'RFC 6749 §6', refresh, 'incident 8: a refresh gives no more than was granted, and never another resource'],
  ['an end is no fault', 'RFC 6749 §5.2', grants, 'a refresh at the very end of its life is refused, never a fault'],
  ['access tokens live shortly', 'RFC 9700 §2.2; RFC 6750 §5.3', accessTokens, 'an access token opens nothing once its hour is over; its refresh token gives another one'],
  ['clients act for themselves', 'RFC 6749 §4.4', grants, 'a client of the administrator acts for itself until it is deleted'],
  ['… but none that registered itself', 'RFC 6749 §4.4', server, 'a client that registered itself can’t act for itself'],
  ['… and no more than they were given', 'RFC 6749 §4.4', server, 'a client of the administrator acts for itself, within what it was given'],
  ['devices', 'RFC 8628 §3.2–3.4', grants, 'a device is connected by a person who types its code, and waits for that'],
  ['slow_down', 'RFC 8628 §3.5', server, 'a device that asks too often is told to slow down'],
  ['the person compares the code', 'RFC 8628 §5.4', 'test/e2e/sign-in-pages.test.ts', 'a device is connected by its code, after the person has compared it and agreed'],
  ['discovery in each form', 'RFC 8414 §3; OIDC Discovery §4; MCP 2026-07-28', server, 'discovery answers in every form, with the issuer that was asked'],
  ['registration', 'RFC 7591 §3', registration, 'a public client gets no secret, and no field that is null'],
  ['… of apps, with schemes of their own', 'RFC 8252 §7.1; OIDC Registration §2', registration, 'Cursor registers its own scheme, a page and loopback at once, and an app that calls itself web is refused'],
  ['… gives no right', 'RFC 7591 §5', outside, 'incident 9: registering gives a client no scope, no grant and no right'],
  ['… of what a client may be', 'RFC 7591 §2, §5', registration, 'what a client may not be is refused'],
  ['… within bounds', 'RFC 7591 §5', 'test/incidents/row-11-registration.test.ts', 'incident 11: a flood of registrations is refused, and everything else goes on'],
  ['… forgotten when it is not used', 'RFC 7591 §5', registration, 'a client that nobody let in within a day is forgotten; one that is used stays'],
  ['… managed by the client', 'RFC 7592 §2', registration, 'a client reads, changes and deletes its own registration, and nobody else does (RFC 7592)'],
  ['client id as URL', 'draft-ietf-oauth-client-id-metadata-document §4', metadata, 'a client whose id is the URL of its metadata is let in, and its document is kept for a while'],
  ['… whose document has to be its own and whole', '… §4.1', metadata, 'a client whose document ${name} is not let in, and nobody is sent anywhere'],
  ['… which says where answers may go', '… §4.1', metadata, 'a client may be sent only where its document says'],
  ['… fetched safely', '… §6.5', metadata, 'no spelling of a private address is public'],
  ['… from the address that was judged', '… §6.5', metadata, 'the address that was judged is the one that is connected to: the name is asked for once'],
  ['… without following', '… §6.5', metadata, 'a redirect is not followed'],
  ['… from one’s own network only when that is set', '… §6.5', metadata, 'a host that is not named is not fetched from when it is in a private network'],
  ['resource indicators', 'RFC 8707 §2', server, 'a token is for the resource that was asked for and no other'],
  ['… in any spelling of scheme and host', 'RFC 3986 §6.2.2.1; MCP 2026-07-28, Canonical Server URI', advertised, 'capitals in scheme and host name the same resource'],
  ['… and none for what is not protected', 'RFC 8707 §2', audience, 'incident 10: no token is issued for what is not protected here'],
  ['exact audiences', 'RFC 9068 §4; MCP 2026-07-28', audience, 'incident 10: it opens nothing beside it'],
  ['with and without the slash at the end', 'MCP 2026-07-28, Canonical Server URI', audience, 'incident 10: a token opens the resource that it is for, with and without a slash, and what is below it'],
  ['access tokens of the standard form', 'RFC 9068 §2', advertised, 'an access token is of the form of RFC 9068, lives an hour at most, and its signature verifies with the published keys'],
  ['… and only those', 'RFC 9068 §4', accessTokens, 'a text that is no token of ours, or one that was changed, speaks for nobody'],
  ['no token is passed on', 'MCP 2026-07-28, Access Token Privilege Restriction', audience, 'incident 10: no upstream sees a token of ours, wherever it was sent and however it is written'],
  ['no token in the query', 'RFC 6750 §5.3; OAuth 2.1 §5.1', audience, 'incident 10: a token in the query is none'],
  ['revocation', 'RFC 7009 §2', grants, 'an access token that is revoked opens nothing, its stream ends within a second, and kill -9 does not bring it back'],
  ['… by the user cuts what is open', 'OAuth 2.1 §7', 'test/incidents/row-30-live-streams.test.ts', 'incident 30: a grant that is revoked takes its streams, and no others'],
  ['… of refresh tokens takes access tokens', 'RFC 7009 §2.1', server, 'revoking a refresh token ends the access tokens of its grant'],
  ['… by its own client only', 'RFC 7009 §2.1', server, 'a client can revoke no token of another client'],
  ['introspection', 'RFC 7662 §2.2', server, 'introspection tells a client what is in its access token, and that a revoked one is not active'],
  ['… not by everyone', 'RFC 7662 §4', server, 'who registered itself learns nothing of the tokens of others'],
  ['pushed requests', 'RFC 9126 §2', server, 'a pushed request (RFC 9126) is answered like any other'],
  ['… good once, for their own client', 'RFC 9126 §2.2, §7.3', advertised, 'a pushed request is good for one sign-in, of the client that pushed it'],
  ['userinfo', 'OIDC Core §5.3', server, 'userinfo answers to a token for this host with what the user allowed'],
  ['a token belongs to its key', 'RFC 9449 §6, §7.1', grants, 'a token that belongs to a key opens /mcp and REST with a proof for that very request, and not without'],
  ['proofs are checked', 'RFC 9449 §4.3', dpop, 'a proof of another method, URL, token, key or time is none'],
  ['proofs are used once', 'RFC 9449 §11.1', dpop, 'a proof is good for one request'],
  ['… and for protected upstreams', 'RFC 9449 §7.1', dpop, 'a token that was asked for with a proof belongs to its key: as a bearer’s it opens nothing'],
  ['keys are rotated', 'RFC 9700; OIDC Core §10.1.1', grants, 'a rotation of the keys invalidates nobody, and survives kill -9'],
  ['a challenge with resource_metadata', 'RFC 9728 §5.1', gateway, 'a missing credential is challenged with an absolute resource_metadata in the form that was asked for'],
  ['resource metadata', 'RFC 9728 §3', gateway, 'the metadata names the exact resource, in each form, and is for everyone'],
  ['… of protected upstreams, root and path', 'RFC 9728 §3.1', protection, 'the metadata names the URL as it was typed, at the root and below'],
  ['a missing credential and a bad one are told apart', 'RFC 6750 §3.1; RFC 9728 §5.1', gateway, 'an invalid credential is told apart from a missing one, and one in the query is none'],
  ['no offline_access, and few scopes to begin with', 'MCP 2026-07-28, Scope Selection Strategy', advertised, 'neither a challenge nor the metadata of a resource names offline_access: both name what everyone begins with'],
  ['pages of browsers may ask', 'Fetch §4.8', gateway, 'a preflight is answered with what MCP clients send, and CORS fields are on every reply'],
  ['/mcp and /mcp/ without a redirect', 'MCP 2026-07-28, Streamable HTTP', gateway, '/mcp and /mcp/ are answered directly on the control host and on served hostnames, without redirect'],
  ['not in the clear', 'OAuth 2.1 §1.5', gateway, 'plain HTTP to the control plane: answered on loopback, redirected or refused from elsewhere'],
  ['insufficient_scope, all scopes at once', 'RFC 6750 §3.1; MCP 2026-07-28, Scope Challenge Handling', grants, 'step-up: a token for viewer is told what it lacks, and a new one with both works'],
  ['no more than the user may do', 'MCP Security Best Practices, Scope Minimization', grants, 'nobody gives a client more than they may do themselves: admin only by those who are'],
  ['scopes contain each other', 'MCP 2026-07-28, Scope Challenge Handling', advertised, 'a scope gives what the scopes below it give: admin operator, operator viewer, and who may write may read'],
  ['consent for each client', 'MCP Security Best Practices, Confused Deputy', consent, 'incident 06: consent is asked for once for a client, redirect URI and scopes, and anew when any of them differs'],
  ['… which says where the answer goes', 'MCP Security Best Practices, Localhost Redirect URI Risks', advertised, 'consent says where the answer goes, and warns where that is the machine of the person, or an app on it'],
  ['… and no other site can give', 'RFC 9700 §4.7; MCP Security Best Practices', consent, 'incident 06: a form without its token, of another page or another site, does nothing'],
  ['a session is not given away by its id', 'MCP Security Best Practices, Session Hijacking', consent, 'incident 06: a session id from before the sign-in is not signed in by it, and cookies are of this host only'],
  ['what is stored opens nothing', 'OAuth 2.1 §7; MCP 2026-07-28, Token Theft', advertised, 'no token and no secret of a client stands readable in what is stored'],
  ['a sign-in belongs to its browser', 'RFC 9700 §4.7', consent, 'incident 06: what one browser began, no other browser finishes, not even with its form'],
  ['a sign-in elsewhere belongs to its browser', 'RFC 9700 §4.7; MCP Security Best Practices, Confused Deputy', elsewhere, 'incident 06: a captured URL of the way back works in no other browser, also one with a sign-in of its own, and is used up by it'],
  ['… and so does the way there', 'RFC 9700 §4.7', elsewhere, 'incident 06: a captured URL of the way there, approved in another browser, signs nobody in there'],
  ['… and counts once', 'RFC 6749 §10.12', elsewhere, 'incident 06: an answer counts once, for its own provider, and only while that sign-in is the one of this browser'],
  ['… with consent for each client after it', 'MCP Security Best Practices, Confused Deputy', elsewhere, 'incident 06: a client is asked about after a sign-in elsewhere as after any other, and no button is pressed by another site'],
  ['PKCE at providers elsewhere', 'RFC 9700 §2.1.1', upstream, 'the way there has PKCE with S256, a new state each time, the exact redirect URI, and no secret'],
  ['who answers is who was asked', 'RFC 9207 §2.4; RFC 9700 §4.4', oidc, 'a provider that says it names itself in its answers (RFC 9207) is believed only when it does'],
  ['ID tokens are checked', 'OIDC Core §3.1.3.7', oidc, 'an ID token with ${what} signs nobody in'],
  ['… by their signature', 'RFC 7515 §5.2; RFC 8725 §3.1', oidc, 'an ID token ${what} signs nobody in'],
  ['userinfo is of the same person', 'OIDC Core §5.3.2', oidc, 'what userinfo says of somebody else signs nobody in'],
  ['issuer and subject are who somebody is', 'OIDC Core §5.7', elsewhere, 'incident 06: the address of an account here, verified elsewhere, does not lead into it'],
  ['discovery leads into no private network', 'MCP Security Best Practices, SSRF', oidc, 'its document leads nobody into a private network: ${endpoint} ${url}'],
  ['pages are in no frame', 'RFC 9700 §4.16', 'test/e2e/sign-in-pages.test.ts', 'a fault is told on a page of ours, and every page forbids scripts, frames and referrers'],
  ['current clients', 'SDK v2', sdk, "the SDK's v2 client signs in ${how}, and calls a tool ${where}"],
  ['…', 'SDK v1', sdk, "the SDK's v1 client signs in, and calls a tool ${where}"],
  ['…', 'mcp-remote', remote, 'it registers, opens a browser, and serves the tools over stdio'],
  ['… keep their token', 'mcp-remote', remote, 'a second start uses the token that is kept: no browser, no registration, no token'],
  ['… and renew it', 'mcp-remote', remote, 'when the token has expired it gets a new one without a person'],
  ['… as they are known to behave', 'diagnose_connector', walks, 'every client passes for ${name}, tokens and both eras included, and nothing of it stays'],
];

const root = join(import.meta.dirname, '../..');

/** Titles of tests that run: in the call of `test`, not in a comment or another text. */
function titlesIn(file: string): ReadonlySet<string> {
  const path = join(root, file);
  if (!existsSync(path)) return new Set();
  const calls = readFileSync(path, 'utf8').matchAll(
    /^\s*(?:await )?(?:t\.)?test\(\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|`((?:[^`\\]|\\.)*)`)/gm,
  );
  return new Set([...calls].map(([, ...texts]) => texts.join('').replace(/\\(.)/g, '$1')));
}

const missingOf = (table: readonly Row[]): string[] =>
  table
    .filter(([, , file, title]) => !titlesIn(file).has(title))
    .map(([requirement, , file, title]) => `${requirement}: ${file} has no test "${title}"`);

test('every requirement has a test that is there', () => {
  assert.deepEqual(missingOf(rows), []);
});

test('a row whose test is not there, is only part of a title, or is in a file that is not there, is told', () => {
  const [, , , title] = rows[0] ?? assert.fail();
  const bad: Row[] = [
    ['gone', '', server, 'a test that nobody wrote'],
    ['part', '', server, title.slice(0, -1)],
    ['file', '', 'test/oauth/nowhere.test.ts', title],
    // It stands there, in a comment.
    ['comment', '', sdk, 'Current clients sign in for real'],
  ];
  assert.equal(missingOf(bad).length, bad.length);
});

/** By the list of the issue: none of them is left out. */
const specifications = [
  'OAuth 2.1',
  ...[
    6749, 6750, 7009, 7591, 7592, 7636, 7662, 8252, 8414, 8628, 8707, 9068, 9126, 9207, 9449, 9700, 9728,
  ].map((number) => `RFC ${number}`),
  'draft-ietf-oauth-client-id-metadata-document',
  'MCP 2026-07-28',
  'MCP Security Best Practices',
];

test('every specification that is served has a row', () => {
  const sections = rows.map(([, section]) => section).join('\n');
  assert.deepEqual(
    specifications.filter((name) => !sections.includes(name)),
    [],
  );
});
