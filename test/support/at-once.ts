import assert from 'node:assert/strict';
import type { Product } from './product.ts';

/** Far less than a second of a machine that does nothing else; as much work of the product on any other. */
const MAX_ANSWERS = 100;

/**
 * What has been done takes effect in less than a second, on a machine of any speed: before the product has given so many
 * short answers. The time of the clock would be that of everything else that the machine does.
 */
export async function assertAtOnce(
  product: Pick<Product, 'api'>,
  hasHappened: () => boolean,
  what: string,
): Promise<void> {
  for (let answers = 0; answers < MAX_ANSWERS; answers++) {
    if (hasHappened()) return;
    await product.api('GET', '/v1/echo?message=x');
  }
  assert.ok(hasHappened(), `not ${what} after ${MAX_ANSWERS} answers`);
}
