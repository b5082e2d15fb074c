/** A table of how many of `total` flows went where. */
export function* shareLines(counts: ReadonlyMap<string, number>, total: number): Generator<string> {
  const names = [...counts.keys()].sort();
  const width = Math.max('endpoint'.length, ...names.map((name) => name.length));
  yield `  ${'endpoint'.padEnd(width)}  ${'flows'.padStart(9)}  ${'share'.padStart(7)}`;
  for (const name of names) {
    const count = counts.get(name)!;
    const share = `${((count / total) * 100).toFixed(2)} %`;
    yield `  ${name.padEnd(width)}  ${String(count).padStart(9)}  ${share.padStart(7)}`;
  }
}

const PORTS = 64_512;
const FIRST_PORT = 1024;

/** The source port of the `index`-th flow of a series that begins with `port`. */
export function seriesPort(port: number, index: number): number {
  return FIRST_PORT + ((port - FIRST_PORT + index + PORTS) % PORTS);
}
