/** What every container engine has to do. Run by the tests of each adapter, and on the fake that other tests use. */
import assert from 'node:assert/strict';
import test, { suite } from 'node:test';
import type { ContainerEngine } from './engine.ts';

export interface EngineUnderTest {
  engine: ContainerEngine;
  /** Creates a container, without starting it, with this secret in its label, environment and command. */
  create: (container: { name: string; image: string; secret: string }) => Promise<void>;
}

export function engineContract(adapter: string, open: () => Promise<EngineUnderTest>): void {
  suite(`${adapter} is a container engine`, () => {
    test('a ping tells its version', async () => {
      const { engine } = await open();
      const state = await engine.ping();
      assert.ok(state.connected);
      assert.match(state.version, /^\d+\./);
    });

    test('a container is listed with what it is, and without labels, environment and command', async () => {
      const { engine, create } = await open();
      await create({ name: 'contract-a', image: 'contract/image:test', secret: 'canary-7d1e' });
      const found = (await engine.listContainers({ all: true })).find(
        ({ names }) => names[0] === 'contract-a',
      );
      assert.ok(found);
      const { id, image, state, ports, createdAt } = found;
      assert.match(id, /^[0-9a-f]{64}$/);
      assert.deepEqual(
        { image, state, ports },
        { image: 'contract/image:test', state: 'created', ports: [] },
      );
      assert.ok(createdAt > Date.UTC(2020, 0, 1) && createdAt % 1000 === 0);
      assert.doesNotMatch(JSON.stringify(found), /canary/);
    });

    test('what does not run is listed only when all are asked for', async () => {
      const { engine, create } = await open();
      await create({ name: 'contract-b', image: 'contract/image:test', secret: 'x' });
      const namesOf = async (all: boolean) =>
        (await engine.listContainers({ all })).flatMap(({ names }) => names);
      assert.ok((await namesOf(true)).includes('contract-b'));
      assert.ok(!(await namesOf(false)).includes('contract-b'));
    });
  });
}
