import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { distributionBits, engineBits } from './fixtures/portable-run.ts';

/*
 * The library in a browser: bundled as a page would do it, without Node's modules, it must load and give the bits
 * that Node gives.
 */
const CHROMIUM = '/usr/bin/chromium';
const FIXTURES = join(dirname(fileURLToPath(import.meta.url)), 'fixtures');
const ENTRY = `
import { distributionBits, engineBits } from './portable-run.ts';
globalThis.portableBits = distributionBits() + engineBits();
if (typeof document === 'object') document.body.textContent = 'bits:' + globalThis.portableBits + ':bits';
`;

interface Bundler {
  build(options: object): Promise<{ readonly outputFiles: readonly { readonly text: string }[] }>;
}

/** The script as one file for a browser. esbuild comes with tsx. */
async function bundle(): Promise<string> {
  const require = createRequire(import.meta.url);
  const esbuild = createRequire(require.resolve('tsx/package.json'))('esbuild') as Bundler;
  const { outputFiles } = await esbuild.build({
    stdin: { contents: ENTRY, resolveDir: FIXTURES, loader: 'ts' },
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'browser',
    // What a bundler for the browser does with seedrandom's require('crypto'), which its Alea never calls.
    external: ['crypto'],
    logLevel: 'error',
  });
  return outputFiles[0]!.text;
}

const digest = (bits: string) => createHash('sha256').update(bits).digest('hex');
const inNode = () => digest(distributionBits() + engineBits());

test('the bundled library gives the same bits in a bare context without Node', async (t) => {
  const context: { portableBits?: string } = {};
  runInNewContext(await bundle(), context);
  t.is(digest(context.portableBits!), inNode());
});

const inChromium = existsSync(CHROMIUM) ? test : test.skip;

inChromium('the engine and the distributions give the same bits in Chromium', async (t) => {
  t.timeout(120_000);
  const directory = await mkdtemp(join(tmpdir(), 'vipsim-browser-'));
  try {
    const page = join(directory, 'page.html');
    await writeFile(join(directory, 'bundle.js'), await bundle());
    await writeFile(page, '<!doctype html><body><script src="bundle.js"></script></body>');
    const { stdout } = await promisify(execFile)(
      CHROMIUM,
      [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-dev-shm-usage',
        `--user-data-dir=${join(directory, 'profile')}`,
        '--dump-dom',
        pathToFileURL(page).href,
      ],
      { maxBuffer: 64 * 1024 * 1024, timeout: 100_000 },
    );
    const found = /bits:([0-9a-f]+):bits/.exec(stdout.replace(/<script[^]*?<\/script>/g, ''));
    t.truthy(found, stdout.slice(0, 500));
    t.is(digest(found![1]!), inNode());
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 5 });
  }
});
