/**
 * What one machine can do and a swarm can not, and the other way round. What a swarm can not promise is refused there, never
 * left out: a port at one address, a container without a network; of folders see `policy.ts`.
 */
import type { ParsedSpec, PolicyFault } from './engine.ts';
import type { Policy } from './policy.ts';

const SWARM_ONLY = 'nothing; services.orchestrator is engine, and only a swarm has it';
/** A swarm publishes at all addresses of a node. */
const EVERY_ADDRESS = '0.0.0.0';

export function orchestratorFaults({ orchestrator }: Policy, spec: ParsedSpec): PolicyFault[] {
  return orchestrator === 'swarm' ? swarmFaults(spec) : engineFaults(spec);
}

function engineFaults({ scale, secrets }: ParsedSpec): PolicyFault[] {
  const faults: PolicyFault[] = [];
  if (scale) faults.push({ where: 'scale', what: `${scale.replicas} replicas`, allowed: SWARM_ONLY });
  for (const what of Object.keys(secrets)) faults.push({ where: 'secrets', what, allowed: SWARM_ONLY });
  return faults;
}

function swarmFaults({ networks, ports }: ParsedSpec): PolicyFault[] {
  const faults: PolicyFault[] = [];
  if (networks.length === 0)
    faults.push({
      where: 'networks',
      what: 'none, which is the network of the machine in a swarm',
      allowed: 'at least one network',
    });
  for (const [index, { hostAddress }] of ports.entries())
    if (hostAddress !== EVERY_ADDRESS)
      faults.push({
        where: `ports[${index}].hostAddress`,
        what: hostAddress,
        allowed: `${EVERY_ADDRESS}, listed in services.bind_addresses: a swarm publishes at all addresses of its nodes`,
      });
  return faults;
}
