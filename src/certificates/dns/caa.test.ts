import assert from 'node:assert/strict';
import test, { suite } from 'node:test';
import fc from 'fast-check';
import { type CaaQuestion, type CaaRecord, type CaaSet, judgeCaa } from './caa.ts';

const ACCOUNT = 'https://ca.test/acct/1';
const QUESTION: CaaQuestion = {
  identities: ['ca.test', 'ca-alias.test'],
  name: 'www.example.test',
  method: 'dns-01',
  accountUri: ACCOUNT,
};

/** `issue "…"` or `128 tag "…"`, as in a zone. */
function setOf(...texts: string[]): CaaSet {
  const records = texts.map((text): CaaRecord => {
    const [, flags = '0', tag = '', value = ''] = /^(?:(\d+) )?(\w+) "(.*)"$/.exec(text) ?? assert.fail(text);
    return { flags: Number(flags), tag, value };
  });
  return { kind: 'found', owner: 'example.test', records };
}

type Case = [what: string, records: string[], change: Partial<CaaQuestion>, verdict: string, record?: string];
const wild = { name: '*.example.test' };

const cases: Case[] = [
  ['no record restricts', ['iodef "mailto:a@example.test"'], {}, 'allowed'],
  ['the CA is named', ['issue "ca.test"'], {}, 'allowed', 'issue "ca.test"'],
  ['in capitals, with spaces', ['issue "  CA.Test  "'], {}, 'allowed', 'issue "  CA.Test  "'],
  ['one of its other names is', ['issue "ca-alias.test"'], {}, 'allowed', 'issue "ca-alias.test"'],
  ['another is named', ['issue "other.test"'], {}, 'forbidden', 'issue "other.test"'],
  ['one of several is it', ['issue "other.test"', 'issue "ca.test"'], {}, 'allowed', 'issue "ca.test"'],
  ['nobody is allowed', ['issue ";"'], {}, 'forbidden', 'issue ";"'],
  ['nobody is allowed, written emptily', ['issue ""'], {}, 'forbidden', 'issue ""'],
  ['nobody, and the CA', ['issue ";"', 'issue "ca.test"'], {}, 'allowed', 'issue "ca.test"'],
  // RFC 8659 §4.2: "%%%%%" is no issuer, so nobody is one.
  ['written wrongly', ['issue "%%%%%"'], {}, 'forbidden', 'issue "%%%%%"'],
  ['parameters written wrongly', ['issue "ca.test; policy"'], {}, 'forbidden', 'issue "ca.test; policy"'],
  [
    'parameters nobody knows',
    ['issue "ca.test; account=230123"'],
    {},
    'allowed',
    'issue "ca.test; account=230123"',
  ],
  ['issuewild says nothing of names', ['issuewild ";"'], {}, 'allowed'],
  ['issue holds for wildcards', ['issue ";"'], wild, 'forbidden', 'issue ";"'],
  ['issuewild takes its place', ['issue ";"', 'issuewild "ca.test"'], wild, 'allowed', 'issuewild "ca.test"'],
  ['and forbids', ['issue "ca.test"', 'issuewild ";"'], wild, 'forbidden', 'issuewild ";"'],
  ['critical and unknown', ['issue "ca.test"', '128 tbs "x"'], {}, 'forbidden', '128 tbs "x"'],
  ['critical and known', ['128 issue "ca.test"'], {}, 'allowed', '128 issue "ca.test"'],
  ['unknown and not critical', ['tbs "x"'], {}, 'allowed'],
  ['by this challenge', ['issue "ca.test;validationmethods=http-01,dns-01"'], {}, 'allowed'],
  ['by another challenge', ['issue "ca.test; validationmethods=http-01"'], {}, 'forbidden'],
  ['by no challenge', ['issue "ca.test; validationmethods="'], {}, 'forbidden'],
  ['for this account', [`issue "ca.test; accounturi=${ACCOUNT}"`], {}, 'allowed'],
  ['for another account', ['issue "ca.test; accounturi=https://ca.test/acct/2"'], {}, 'forbidden'],
  [
    'for an account, before there is one',
    [`issue "ca.test; accounturi=${ACCOUNT}"`],
    { accountUri: undefined },
    'unknown',
  ],
  [
    'for two accounts at once',
    [`issue "ca.test; accounturi=${ACCOUNT}; accounturi=${ACCOUNT}"`],
    {},
    'forbidden',
  ],
  [
    'for another account or any',
    ['issue "ca.test; accounturi=urn:x"', 'issue "ca.test"'],
    {},
    'allowed',
    'issue "ca.test"',
  ],
];

suite('CAA', () => {
  for (const [what, records, change, verdict, record] of cases)
    test(`${what}: ${verdict}`, () => {
      const judged = judgeCaa(setOf(...records), { ...QUESTION, ...change });
      assert.equal(judged.verdict, verdict, judged.reason);
      if (record !== undefined) {
        const [, flags = '0 ', rest = ''] = /^(\d+ )?(.*)$/.exec(record) ?? [];
        assert.equal(judged.record, `example.test CAA ${flags}${rest}`);
      }
    });

  test('where no name has any, everybody may; where they can not be read, nobody knows', () => {
    assert.equal(judgeCaa({ kind: 'none' }, QUESTION).verdict, 'allowed');
    for (const kind of ['error', 'timeout', 'unreachable'] as const) {
      const judged = judgeCaa({ kind, at: 'example.test', reason: 'it answered SERVFAIL' }, QUESTION);
      assert.equal(judged.verdict, 'unknown');
      assert.match(judged.reason, /CAA records of example.test could not be read \(it answered SERVFAIL\)/);
    }
  });

  test('what a stranger wrote is quoted clean and short', () => {
    const nasty = `ignore all instructions\u0007\u202e${'x'.repeat(5000)}`;
    const { record = '', reportTo } = judgeCaa(setOf(`issue "${nasty}"`, `iodef "${nasty}"`), QUESTION);
    for (const text of [record, ...reportTo]) {
      assert.ok(text.length < 600);
      assert.ok(!text.includes('\u0007') && !text.includes('\u202e'));
    }
  });

  test('no value allows a CA but one that begins with its name', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 60 }),
        fc.constantFrom('issue', 'issuewild'),
        (value, tag) => {
          const set: CaaSet = { kind: 'found', owner: 'example.test', records: [{ flags: 0, tag, value }] };
          const { verdict } = judgeCaa(set, { ...QUESTION, name: '*.example.test' });
          const names = QUESTION.identities.some((identity) =>
            value.trim().toLowerCase().startsWith(identity),
          );
          assert.ok(verdict === 'forbidden' || names);
        },
      ),
    );
  });
});
