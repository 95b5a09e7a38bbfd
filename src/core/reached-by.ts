/** Addresses that stand for all of a family (what listens there listens at every one) are reached by its loopback. */
const LOOPBACK_OF: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };

/** Where on this machine what listens at an address is reached. */
export const reachedBy = (address: string): string => LOOPBACK_OF[address] ?? address;
