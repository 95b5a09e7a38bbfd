/** When a challenge is over that a CA leaves open, by what the CA says of it from one question to the next. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import test from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { ManualClock, MINUTE, SECOND } from '../../core/clock.ts';
import { pollAuthorization, SAME_ERROR_MS } from './authorization.ts';
import { parseProblem } from './problem.ts';
import type { Session } from './session.ts';

const URL = 'https://ca.test/authz/1';
const CHALLENGE = 'https://ca.test/challenge/1';
const OLD = { type: 'urn:ietf:params:acme:error:connection', detail: 'refused at 10:00' };
const NEW = { type: 'urn:ietf:params:acme:error:connection', detail: 'refused at 11:00' };

/** What the CA says at each question, the last one again; when the poll was over, and as what. */
async function polled(...said: { status: string; error?: object }[]) {
  const clock = new ManualClock();
  const session: Pick<Session, 'clock' | 'post'> = {
    clock,
    post: async ({ url }) => {
      const { status, error } = (said.length > 1 ? said.shift() : said[0]) ?? assert.fail();
      const challenge = { type: 'http-01', url: CHALLENGE, status: 'pending', token: 'x', error };
      return {
        url,
        status: 200,
        contentType: 'application/json',
        text: JSON.stringify({
          identifier: { type: 'dns', value: 'a.company.io' },
          status,
          challenges: [challenge],
        }),
        nonce: undefined,
        location: undefined,
        links: [],
        retryAfterMs: undefined,
      };
    },
  };
  const began = clock.now();
  let isOver = false;
  const { privateKey: key } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const account = { url: 'https://ca.test/account/1', key };
  const polling = pollAuthorization(session as Session, account, URL, {
    signal: new AbortController().signal,
    deadline: began + 5 * MINUTE,
    answered: { url: CHALLENGE, error: parseProblem(OLD) },
  }).finally(() => (isOver = true));
  while (!isOver) {
    await setImmediate();
    if (!isOver) clock.advance(SECOND);
  }
  return { status: (await polling).status, afterMs: clock.now() - began };
}

test('an error of an answer before this one is not why it fails: the CA is still looking', async () => {
  const { status } = await polled(
    { status: 'pending', error: OLD },
    { status: 'pending', error: OLD },
    { status: 'valid' },
  );
  assert.equal(status, 'valid');
});

test('a challenge that is left open with another error than before is over', async () => {
  const { status, afterMs } = await polled(
    { status: 'pending', error: OLD },
    { status: 'pending', error: NEW },
  );
  assert.equal(status, 'pending');
  assert.ok(afterMs < SAME_ERROR_MS);
});

test('one that has the same error still after the time that a look takes is over', async () => {
  const { status, afterMs } = await polled({ status: 'pending', error: OLD });
  assert.equal(status, 'pending');
  assert.ok(afterMs >= SAME_ERROR_MS && afterMs < 2 * MINUTE, String(afterMs));
});
