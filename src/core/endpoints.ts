/** Every route that the process serves for itself, registered by who serves it. `list_endpoints` and a test walk it. */
import { assert } from './assert.ts';
import type { Operation } from './operation.ts';

export interface Endpoint {
  methods: readonly string[];
  /** With `{name}` for path parameters. */
  path: string;
  surface: 'mcp' | 'rest' | 'web' | 'metadata' | 'acme';
  /** `control`: on the control hosts only. `served`: on every hostname that is served; `protected`: by OAuth. */
  hosts: 'control' | 'served' | 'protected';
  /**
   * What a caller needs. `mcp`: the MCP gate (a valid credential unless `mcp.access` is public); `front`: an address
   * that `gateway.trusted_proxies` names; `oauth`: what the protocol asks for there (a client, a person in a browser).
   */
  gate: Operation['permission'] | 'mcp' | 'front' | 'oauth';
  description: string;
}

export interface EndpointRegistry {
  register(endpoint: Endpoint): void;
  list(): readonly Endpoint[];
}

export function createEndpointRegistry(): EndpointRegistry {
  const endpoints = new Map<string, Endpoint>();
  return {
    register(endpoint) {
      for (const method of endpoint.methods) {
        const key = `${method} ${endpoint.path}`;
        assert(!endpoints.has(key), `${key} is registered once`);
        endpoints.set(key, endpoint);
      }
    },
    list: () => [...new Set(endpoints.values())],
  };
}
