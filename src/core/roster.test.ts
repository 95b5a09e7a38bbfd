import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Member, NOWHERE, Roster } from './roster.ts';

const member = (): Member => ({ place: NOWHERE });

describe('Roster', () => {
  it('holds what a Set would hold, whatever is added and deleted in whatever order', () => {
    const step = fc.record({ isAdd: fc.boolean(), index: fc.nat(7) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const members = Array.from({ length: 8 }, member);
        const roster = new Roster<Member>();
        const model = new Set<Member>();
        for (const { isAdd, index } of steps) {
          const one = members[index] ?? member();
          if (isAdd) {
            roster.add(one);
            model.add(one);
          } else assert.equal(roster.delete(one), model.delete(one));
          assert.equal(roster.size, model.size);
          assert.deepEqual(new Set(roster), model);
        }
      }),
    );
  });

  it('shows each member once to who goes through it while members leave', () => {
    const roster = new Roster<Member>();
    const members = [member(), member(), member()];
    for (const one of members) roster.add(one);
    const seen: Member[] = [];
    for (const one of roster) {
      seen.push(one);
      roster.delete(one);
    }
    assert.deepEqual(seen, members);
    assert.equal(roster.size, 0);
  });

  it('takes a member of another roster for a stranger', () => {
    const [one, other] = [new Roster<Member>(), new Roster<Member>()];
    const guest = member();
    one.add(member());
    other.add(guest);
    assert.equal(one.delete(guest), false);
    assert.equal(one.size, 1);
  });
});
