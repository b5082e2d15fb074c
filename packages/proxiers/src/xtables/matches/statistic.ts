import type { OptionNames, Options } from '../options.ts';
import type { Match } from '../rule.ts';

/**
 * Models: the 31-bit comparison of random mode, the shared counter of nth mode. Source: net/netfilter/xt_statistic.c,
 * extensions/libxt_statistic.c (how the text becomes the threshold, and back).
 */

export const STATISTIC_OPTIONS: OptionNames = {
  '--mode': ['--mode', 1],
  '--probability': ['--probability', 1],
  '--every': ['--every', 1],
  '--packet': ['--packet', 1],
};

const ONE = 0x80000000;

export function statisticMatch(options: Options): Match {
  const mode = options.needed('--mode');
  if (mode === 'random') return randomMatch(options);
  if (mode === 'nth') return nthMatch(options);
  throw options.fault(`--mode ${mode} is not known`, 'use random or nth');
}

function randomMatch(options: Options): Match {
  const text = options.needed('--probability');
  const probability = /^(\d+(\.\d*)?|\.\d+)(e-?\d+)?$/i.test(text) ? Number(text) : NaN;
  if (!(probability >= 0 && probability <= 1)) {
    throw options.fault(`--probability ${text}: not a number from 0 to 1`, 'write for instance 0.3333333333');
  }
  const threshold = Math.floor(probability * ONE + 0.5);
  const not = options.isNot('--probability');
  return {
    name: 'statistic',
    save: () => ` --mode random${not ? ' !' : ''} --probability ${probabilityText(threshold)}`,
    fits: (_, world) => world.drawsBelow(threshold) !== not,
  };
}

function nthMatch(options: Options): Match {
  const every = options.whole('--every', 1, 0xffffffff);
  if (every === undefined) throw options.fault('--mode nth lacks --every', 'add --every N');
  const packet = options.whole('--packet', 0, every - 1) ?? 0;
  const not = options.isNot('--every');
  // libxt_statistic hands the kernel (every - packet - 1) so that packet 0 is the first that matches.
  const start = every - packet - 1;
  let count = start;
  return {
    name: 'statistic',
    save: () => ` --mode nth${not ? ' !' : ''} --every ${every} --packet ${packet}`,
    fits: (_, world) => {
      const next = count === every - 1 ? 0 : count + 1;
      if (!world.dry) count = next;
      return (next === 0) !== not;
    },
    restart: () => {
      count = start;
    },
  };
}

/** As printf's %.11f of threshold / 2^31: exact, ties to even. */
export function probabilityText(threshold: number): string {
  const scaled = BigInt(threshold) * 100_000_000_000n;
  const whole = scaled >> 31n;
  const rest = scaled & 0x7fffffffn;
  const up = rest > 0x40000000n || (rest === 0x40000000n && (whole & 1n) === 1n);
  const digits = String(up ? whole + 1n : whole).padStart(12, '0');
  return `${digits.slice(0, -11)}.${digits.slice(-11)}`;
}
