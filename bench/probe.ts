/**
 * Loaded into a measured process with `--import`, beside what it runs: answers the benchmark's questions about CPU time
 * (of all threads) and memory (after a full collection), so that the product itself needs no such thing.
 */
export interface Memory {
  /** What JavaScript holds, on and off the heap of the main thread. */
  readonly held: number;
  readonly resident: number;
}

process.on('message', (question) => {
  if (question === 'cpu') process.send?.(process.cpuUsage());
  if (question === 'memory') process.send?.(memory());
});
// The channel to the benchmark is not what the process lives for.
process.channel?.unref();

function memory(): Memory {
  // Twice: what finalizers of the first one let go of is free after the second one.
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external, rss } = process.memoryUsage();
  return { held: heapUsed + external, resident: rss };
}
