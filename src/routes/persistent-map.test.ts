import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { PersistentMap } from './persistent-map.ts';

const MAX_KEY = 120;
const keyOf = (n: number) => `key-${n}`;

const change = fc.tuple(fc.nat(MAX_KEY).map(keyOf), fc.option(fc.integer(), { nil: undefined }));
/** Small changes are kept beside the base; the large ones make a new one. */
const changes = fc.array(fc.oneof(fc.array(change), fc.array(change, { minLength: 70, maxLength: 200 })));

test('after any changes it holds what a map would, and the maps before it are as they were', () => {
  fc.assert(
    fc.property(changes, (steps) => {
      const model = new Map<string, number>();
      const versions: [PersistentMap<number>, Map<string, number>][] = [];
      let map = PersistentMap.empty<number>();
      for (const step of steps) {
        map = map.with(new Map(step));
        for (const [key, value] of new Map(step))
          if (value === undefined) model.delete(key);
          else model.set(key, value);
        versions.push([map, new Map(model)]);
      }
      for (const [version, entries] of versions) {
        assert.deepEqual(new Map(version.entries()), entries);
        for (let n = 0; n <= MAX_KEY; n++) assert.equal(version.get(keyOf(n)), entries.get(keyOf(n)));
      }
    }),
  );
});
