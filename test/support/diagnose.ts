/** Asks the running product for diagnoses, and looks into them. */
import assert from 'node:assert/strict';
import type { Diagnosis, StepId } from '../../src/connectors/schema.ts';
import type { Product } from './product.ts';

/** Characters at four a token. */
const MAX_CHARACTERS = 8_000;

type Asked = { url: string; client?: string; since?: string };

export const pathOf = (asked: Asked): string =>
  `/v1/connector-diagnosis?${new URLSearchParams(asked).toString()}`;

export async function diagnose(product: Pick<Product, 'api'>, asked: Asked): Promise<Diagnosis> {
  const { status, body } = await product.api('GET', pathOf(asked));
  assert.equal(status, 200, JSON.stringify(body));
  assert.ok(JSON.stringify(body).length <= MAX_CHARACTERS, 'a model reads at most 2,000 tokens of it');
  return body;
}

/** What was found at a step, for the first client that came there. */
export const stepOf = ({ steps }: Diagnosis, id: StepId) =>
  steps.find(({ step }) => step === id) ?? assert.fail(`no step ${id}: ${JSON.stringify(steps)}`);

/** The step at which all stop, with what was found and the remedy; the summary names both. */
export function failureIn(diagnosis: Diagnosis): { step: StepId; found: string; remedy: string } {
  const [client] = diagnosis.clients;
  assert.equal(client?.outcome, 'fails', JSON.stringify(diagnosis));
  const step = client.stops_at ?? assert.fail();
  const told = diagnosis.steps.findLast((one) => one.step === step && one.status === 'failed');
  const { found, remedy = '' } = told ?? assert.fail();
  assert.ok(diagnosis.summary.includes(`at ${step} fails: ${found}`), diagnosis.summary);
  assert.ok(diagnosis.summary.includes(remedy), diagnosis.summary);
  return { step, found, remedy };
}
