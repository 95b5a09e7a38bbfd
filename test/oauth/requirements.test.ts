/** What the specifications demand of the authorization server and of its resources, and the test that shows it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
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

type Row = readonly [requirement: string, section: string, file: string, title: string];

// biome-ignore format: a table is read by its columns
const rows: readonly Row[] = [
  ['PKCE with S256 only', 'OAuth 2.1 §4.1.1; RFC 7636 §4.4.1', server, 'no challenge, an empty one, plain and unknown methods are refused'],
  ['… by route', 'RFC 9700 §2.1.1', codes, 'incident 7: an authorization request with ${what} gets no code'],
  ['the verifier is needed', 'RFC 7636 §4.6', codes, 'incident 7: a code without its verifier, or with another one, is worth nothing'],
  ['a code is used once', 'RFC 6749 §4.1.2', grants, 'of 200 redemptions of one code at the same time exactly one gets a token'],
  ['a replayed code ends what it gave', 'RFC 6749 §10.5', codes, 'incident 7: a code that comes again ends what it gave'],
  ['a code is of one client and redirect URI', 'RFC 6749 §4.1.3', codes, 'incident 7: a code is for one client and one redirect URI'],
  ['redirect URIs to the letter', 'RFC 9700 §2.1', outside, 'incident 9: a redirect URI in another spelling, or of somebody else, is no way out'],
  ['… as a property', 'RFC 9700 §4.1.3', redirects, 'a redirect URI is compared to the letter'],
  ['but for the port on loopback', 'RFC 8252 §7.3', redirects, 'only the port may be another, and only on the user’s own machine'],
  ['no open redirect', 'RFC 6749 §4.1.2.1; RFC 9700 §4.11', outside, 'incident 9: a fault of an unknown client is shown here, and sends nobody anywhere'],
  ['issuer in the answer', 'RFC 9207 §2', server, 'code, PKCE and a resource give an access token for that resource'],
  ['… and in an error', 'RFC 9207 §2', server, 'an error on the way back names the issuer as well'],
  ['answers are not stored', 'RFC 6749 §5.1', server, 'code, PKCE and a resource give an access token for that resource'],
  ['a client has to prove its secret', 'RFC 6749 §2.3', outside, 'incident 9: a client with a secret is nobody without it'],
  ['a client that is gone is told so', 'RFC 6749 §5.2', grants, 'a client that was deleted is told to register again: 401 invalid_client'],
  ['a default scope', 'RFC 6749 §3.3', server, 'who asks without a scope gets viewer'],
  ['refresh tokens are rotated, with a grace', 'RFC 9700 §2.2.2', grants, '50 refreshes at the same time all work; after kill -9 so do their successors; a replay ends them all'],
  ['a replay ends the family', 'RFC 9700 §4.14.2', server, 'a refresh token that comes again after the grace ends its whole family'],
  ['a refresh token is of one client', 'RFC 6749 §6', refresh, 'incident 8: a refresh token gives a stranger nothing, and stays good for its own client'],
  ['a refresh widens nothing', 'RFC 6749 §6', refresh, 'incident 8: a refresh gives no more than was granted, and never another resource'],
  ['an end is no fault', 'RFC 6749 §5.2', grants, 'a refresh at the very end of its life is refused, never a fault'],
  ['clients act for themselves', 'RFC 6749 §4.4', grants, 'a client of the administrator acts for itself until it is deleted'],
  ['… but none that registered itself', 'RFC 6749 §4.4', server, 'a client that registered itself can’t act for itself'],
  ['devices', 'RFC 8628 §3.2–3.4', grants, 'a device is connected by a person who types its code, and waits for that'],
  ['slow_down', 'RFC 8628 §3.5', server, 'a device that asks too often is told to slow down'],
  ['the person compares the code', 'RFC 8628 §5.4', 'test/e2e/sign-in-pages.test.ts', 'a device is connected by its code, after the person has compared it and agreed'],
  ['discovery in each form', 'RFC 8414 §3; OIDC Discovery §4; MCP 2026-07-28', server, 'discovery answers in every form, with the issuer that was asked'],
  ['registration', 'RFC 7591 §3', registration, 'a public client gets no secret, and no field that is null'],
  ['… of what a client may be', 'RFC 7591 §2, §5', registration, 'what a client may not be is refused'],
  ['… within bounds', 'RFC 7591 §5', 'test/incidents/row-11-registration.test.ts', 'incident 11: a flood of registrations is refused, and everything else goes on'],
  ['… forgotten when it is not used', 'RFC 7591 §5', registration, 'a client that nobody let in within a day is forgotten; one that is used stays'],
  ['… managed by the client', 'RFC 7592 §2', registration, 'a client reads, changes and deletes its own registration, and nobody else does (RFC 7592)'],
  ['client id as URL', 'draft-ietf-oauth-client-id-metadata-document §4', metadata, 'a client whose id is the URL of its metadata is let in, and its document is kept for a while'],
  ['… fetched safely', '… §6.5', metadata, 'no spelling of a private address is public'],
  ['… from the address that was judged', '… §6.5', metadata, 'the address that was judged is the one that is connected to: the name is asked for once'],
  ['… without following', '… §6.5', metadata, 'a redirect is not followed'],
  ['resource indicators', 'RFC 8707 §2', server, 'a token is for the resource that was asked for and no other'],
  ['exact audiences', 'RFC 9068 §4; MCP 2026-07-28', audience, 'incident 10: it opens nothing beside it'],
  ['no token is passed on', 'MCP 2026-07-28, Access Token Privilege Restriction', audience, 'incident 10: no upstream sees a token of ours, wherever it was sent and however it is written'],
  ['no token in the query', 'RFC 6750 §5.3; OAuth 2.1 §5.1', audience, 'incident 10: a token in the query is none'],
  ['revocation', 'RFC 7009 §2', grants, 'an access token that is revoked opens nothing, its stream ends within a second, and kill -9 does not bring it back'],
  ['… of refresh tokens takes access tokens', 'RFC 7009 §2.1', server, 'revoking a refresh token ends the access tokens of its grant'],
  ['… by its own client only', 'RFC 7009 §2.1', server, 'a client can revoke no token of another client'],
  ['introspection', 'RFC 7662 §2.2', server, 'introspection tells a client what is in its access token, and that a revoked one is not active'],
  ['… not by everyone', 'RFC 7662 §4', server, 'who registered itself learns nothing of the tokens of others'],
  ['pushed requests', 'RFC 9126 §2', server, 'a pushed request (RFC 9126) is answered like any other'],
  ['userinfo', 'OIDC Core §5.3', server, 'userinfo answers to a token for this host with what the user allowed'],
  ['a token belongs to its key', 'RFC 9449 §6, §7.1', grants, 'a token that belongs to a key opens /mcp and REST with a proof for that very request, and not without'],
  ['proofs are checked', 'RFC 9449 §4.3', dpop, 'a proof of another method, URL, token, key or time is none'],
  ['proofs are used once', 'RFC 9449 §11.1', dpop, 'a proof is good for one request'],
  ['keys are rotated', 'RFC 9700; OIDC Core §10.1.1', grants, 'a rotation of the keys invalidates nobody, and survives kill -9'],
  ['a challenge with resource_metadata', 'RFC 9728 §5.1', gateway, 'a missing credential is challenged with an absolute resource_metadata in the form that was asked for'],
  ['resource metadata', 'RFC 9728 §3', gateway, 'the metadata names the exact resource, in each form, and is for everyone'],
  ['insufficient_scope, all scopes at once', 'RFC 6750 §3.1; MCP 2026-07-28, Scope Challenge Handling', grants, 'step-up: a token for viewer is told what it lacks, and a new one with both works'],
  ['no more than the user may do', 'MCP Security Best Practices, Scope Minimization', grants, 'nobody gives a client more than they may do themselves: admin only by those who are'],
  ['consent for each client', 'MCP Security Best Practices, Confused Deputy', consent, 'incident 06: consent is asked for once for a client, redirect URI and scopes, and anew when any of them differs'],
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
  ['current clients', 'SDK v2 and v1', 'test/oauth/sdk-clients.test.ts', "the SDK's v1 client signs in, and calls a tool"],
];

const root = join(import.meta.dirname, '../..');

test('every requirement has a test that is there', () => {
  const missing = rows.filter(([, , file, title]) => !readFileSync(join(root, file), 'utf8').includes(title));
  assert.deepEqual(
    missing.map(([requirement, , file, title]) => `${requirement}: ${file} has no test "${title}"`),
    [],
  );
});
