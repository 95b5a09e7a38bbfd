/** What the tests of real engines allow, and what somebody else does there. */
import assert from 'node:assert/strict';
import { type Policy, policySchema } from '../../src/services/policy.ts';
import { IMAGE, type TestEngine } from '../support/docker.ts';

export const policyOf = (registry: string | undefined, changes: object = {}): Policy =>
  policySchema.parse({
    images: ['docker.io/contract/*', ...(registry === undefined ? [] : [`${registry}/**`])],
    ...changes,
  });

/** The same, of a swarm. */
export const foreignService =
  ({ api }: TestEngine) =>
  async (name: string): Promise<void> => {
    const { status, body } = await api('POST', '/services/create', {
      Name: name,
      Labels: { secret: 'canary-label' },
      TaskTemplate: {
        ContainerSpec: {
          Image: IMAGE,
          Env: ['SECRET=canary-environment'],
          Args: ['/bin/echo', 'canary-command'],
        },
      },
      Mode: { Replicated: { Replicas: 0 } },
    });
    assert.equal(status, 201, JSON.stringify(body));
  };

/** A container with secrets everywhere, by the engine's own API. */
export const foreigner =
  ({ api }: TestEngine) =>
  async (name: string): Promise<void> => {
    const { status, body } = await api('POST', `/containers/create?name=${name}`, {
      Image: IMAGE,
      Labels: { secret: 'canary-label' },
      Env: ['SECRET=canary-environment'],
      Cmd: ['/bin/echo', 'canary-command'],
      HostConfig: { NetworkMode: 'none' },
    });
    assert.equal(status, 201, JSON.stringify(body));
  };
