import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { referencePages } from '../../../tools/reference-pages.ts';

/** Rules of the house that no linter checks. */

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

function sources(folder: string): { path: string; text: string }[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => ({ path: join(folder, path), text: readFileSync(join(ROOT, folder, path), 'utf8') }));
}

/** Without comments and strings: what is left is code. */
function code(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/g, '');
}

const BELOW_THE_CLI = [
  ...sources('packages/sim-core/src'),
  ...sources('packages/proxiers/src'),
  ...sources('packages/scenarios/src').filter(({ path }) => !path.includes('/cli/')),
];

test('nothing below the command line needs Node, a clock, or an operator that engines round differently', (t) => {
  for (const { path, text } of BELOW_THE_CLI) {
    t.notRegex(text, /from 'node:/, path);
    t.notRegex(code(text), /\*\*|\bprocess\.|\bDate\b|\bperformance\b|Math\.random/, path);
  }
  t.true(BELOW_THE_CLI.length > 100);
});

test('dependencies point one way: scenarios, proxiers, sim-core; and no mode knows another', (t) => {
  for (const { path, text } of sources('packages/sim-core/src')) t.notRegex(text, /from '@vipsim\//, path);
  for (const { path, text } of sources('packages/proxiers/src')) {
    t.notRegex(text, /from '@vipsim\/(scenarios|proxiers)/, path);
    const mode = /src\/(iptables|nftables|ipvs|ebpf|userspace|xtables|nf-tables)\//.exec(path)?.[1];
    if (mode === undefined) continue;
    for (const other of ['iptables', 'nftables', 'ipvs', 'ebpf', 'userspace', 'xtables', 'nf-tables']) {
      // kube-proxy's nftables mode stands on nf_tables; that stands on no mode.
      if (mode === 'nftables' && other === 'nf-tables') continue;
      if (other !== mode) t.notRegex(text, new RegExp(`from '\\.\\./${other}/`), path);
    }
  }
});

test('the lock file names no registry', (t) => {
  t.notRegex(readFileSync(join(ROOT, 'pnpm-lock.yaml'), 'utf8'), /https?:\/\//);
});

test('files stay readable: at most 450 lines', (t) => {
  for (const { path, text } of BELOW_THE_CLI) t.true(text.split('\n').length <= 450, path);
});

test('the reference pages are those that the code makes: pnpm reference writes them', (t) => {
  for (const { file, text } of referencePages()) {
    t.is(readFileSync(join(ROOT, 'docs/reference', file), 'utf8'), text, file);
  }
});
