/**
 * Processor time of this process so far, in ns. Unlike the clock on the wall it does not count what others do to a
 * shared machine; threads that collect garbage count in.
 */
export function processorNs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}
