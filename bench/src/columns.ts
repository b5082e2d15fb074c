import { readFileSync, writeFileSync } from 'node:fs';

/**
 * Columns of doubles in a file, so that every structure, native ones too, works on the very same numbers: for each
 * column its length, then its values, in the machine's byte order.
 */
export function writeColumns(file: string, columns: readonly Float64Array[]): void {
  const parts = columns.flatMap((column) => [Float64Array.of(column.length), column]);
  const bytes = parts.map((part) => new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
  writeFileSync(file, Buffer.concat(bytes));
}

export function readColumns(file: string): Float64Array[] {
  const bytes = readFileSync(file);
  const doubles = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  const columns: Float64Array[] = [];
  for (let at = 0; at < doubles.length;) {
    const length = doubles[at]!;
    columns.push(doubles.slice(at + 1, at + 1 + length));
    at += 1 + length;
  }
  return columns;
}
