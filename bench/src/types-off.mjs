import { readFile } from 'node:fs/promises';
import { register } from 'node:module';
import { isMainThread } from 'node:worker_threads';
import { transform } from 'esbuild';

// For `node --import`: runs TypeScript as Node would run what tsc makes of it, types taken off and nothing added. `tsx`
// also gives every function its name at run time, which costs a program that makes closures up to two thirds more.

if (isMainThread) register(import.meta.url);

export async function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context);
  const text = await readFile(new URL(url), 'utf8');
  const { code } = await transform(text, {
    loader: 'ts',
    format: 'esm',
    target: 'node20.19',
    sourcefile: url,
  });
  return { format: 'module', shortCircuit: true, source: code };
}
