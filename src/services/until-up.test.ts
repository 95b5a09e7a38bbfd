import assert from 'node:assert/strict';
import test from 'node:test';
import { blog, setUpServices } from './services.fixture.ts';
import { whyDown } from './until-up.ts';

test('a container that ended and runs again is not said to have ended with the code of the one that runs', async () => {
  const { call, engine } = await setUpServices();
  await call('create_service', blog);
  const found = await engine.inspect('blog.1');
  const why = (changes: object) => whyDown(engine, found.id, { ...found, ...changes });
  assert.match(await why({ restarts: 2, exitCode: 0 }), /: it ended, and was started again/);
  assert.match(await why({ restarts: 2, exitCode: 3 }), /: it ended with exit code 3/);
  assert.match(await why({ running: false, exitCode: 0 }), /: it ended with exit code 0/);
});
