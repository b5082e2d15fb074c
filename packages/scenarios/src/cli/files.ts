import {
  closeSync,
  fstatSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { UsageError } from './usage-error.ts';

/** V8 holds strings up to about 512 MiB. */
const BYTES_MAX = 512 * 1024 * 1024;

/** Read a file, or standard input for `-`. */
export function readInput(path: string): Buffer {
  try {
    if (path === '-') return readFileSync(0);
    const size = statSync(path).size;
    if (size > BYTES_MAX) {
      throw new UsageError(
        `${path}: ${size} bytes is more than the ${BYTES_MAX} that one file may have; split it, several files may be given`,
      );
    }
    return readFileSync(path);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${path}: ${reason(error)}`);
  }
}

/** Ends of the names of files with Kubernetes objects. */
const MANIFESTS: readonly string[] = ['.yaml', '.yml', '.json'];

/** The files of such names in a directory and those below it, in order of their names; or the file itself. */
export function listInputs(path: string, kinds: readonly string[] = MANIFESTS): string[] {
  if (path === '-') return [path];
  let isDirectory: boolean;
  try {
    isDirectory = statSync(path).isDirectory();
  } catch (error) {
    throw new UsageError(`${path}: ${reason(error)}`);
  }
  if (!isDirectory) return [path];
  const files = readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && kinds.some((kind) => entry.name.toLowerCase().endsWith(kind)))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  if (files.length === 0) throw new UsageError(`${path}: no ${kinds.join(', ')} file in this directory`);
  return files;
}

/** Check that a file could be written, before hours of work are spent on its content. */
export function assertWritable(path: string): void {
  if (path === '-') return;
  const probe = aside(path);
  try {
    closeSync(openSync(probe, 'w'));
    rmSync(probe);
  } catch (error) {
    throw new UsageError(`${path}: cannot write: ${reason(error)}`);
  }
}

/** Write beside the target, then rename: a reader never meets half a file. `-` is standard output. */
export function writeWhole(path: string, text: string): void {
  if (path === '-') {
    writeAll(1, Buffer.from(text));
    return;
  }
  const temporary = aside(path);
  try {
    writeFileSync(temporary, text);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new UsageError(`${path}: cannot write: ${reason(error)}`);
  }
}

/** `writeWhole` for content that comes in chunks and may be larger than memory. */
export function writeChunks(path: string, chunks: Iterable<string | Uint8Array>): void {
  if (path === '-') {
    for (const chunk of chunks) if (!writeAll(1, Buffer.from(chunk as string))) return;
    return;
  }
  const temporary = aside(path);
  try {
    const descriptor = openSync(temporary, 'w');
    try {
      for (const chunk of chunks) writeAll(descriptor, Buffer.from(chunk as string));
    } finally {
      closeSync(descriptor);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    // Only the file system's errors are about writing; others come from whoever makes the chunks.
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    throw new UsageError(`${path}: cannot write: ${reason(error)}`);
  }
}

/** Write to standard output; a reader that has gone away is no fault. */
export function printText(text: string): void {
  writeAll(1, Buffer.from(text));
}

/** Write lines to standard output in blocks; false when the reader has gone away. */
export function printLines(lines: Iterable<string>): boolean {
  let block = '';
  for (const line of lines) {
    block += line;
    block += '\n';
    if (block.length < 65_536) continue;
    if (!writeAll(1, Buffer.from(block))) return false;
    block = '';
  }
  return writeAll(1, Buffer.from(block));
}

function writeAll(descriptor: number, bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(descriptor, bytes, at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') return false;
      if (code !== 'EAGAIN' || fstatSync(descriptor).isFile()) throw error;
    }
  }
  return true;
}

function aside(path: string): string {
  const target = resolve(path);
  return join(dirname(target), `.${process.pid}-${target.slice(dirname(target).length + 1)}.part`);
}

function reason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  switch (code) {
    case 'ENOENT':
      return 'no such file or directory';
    case 'EACCES':
      return 'permission denied';
    case 'EISDIR':
      return 'is a directory';
    default:
      return message;
  }
}
