import type { OptionNames, Options } from '../options.ts';
import type { Match } from '../rule.ts';

export const LIMIT_OPTIONS: OptionNames = {
  '--limit': ['--limit', 1],
  '--limit-burst': ['--limit-burst', 1],
};

/** Times are in ten-thousandths of a second. */
const SCALE = 10_000;
const BURST_DEFAULT = 5;
const DAY_S = 86_400;
const UNITS: readonly (readonly [string, number])[] = [
  ['day', DAY_S * SCALE],
  ['hour', 3_600 * SCALE],
  ['min', 60 * SCALE],
  ['sec', SCALE],
];

/** `-m limit`: a bucket of credits that fills with the ticks. Source: net/netfilter/xt_limit.c, libxt_limit.c. */
export function limitMatch(options: Options): Match {
  const rate = /^(\d{1,9})(?:\/([a-z]+))?$/i.exec(options.text('--limit') ?? '3/hour');
  const word = rate?.[2]?.toLowerCase() ?? 'sec';
  const unit = UNITS.find(([name]) =>
    ['second', 'minute', 'hour', 'day'].some((long) => long.startsWith(word) && long.startsWith(name)),
  );
  const times = Number(rate?.[1] ?? 0);
  if (unit === undefined || times < 1 || times > unit[1]) {
    throw options.fault(
      `--limit ${options.text('--limit')}: not a rate`,
      'write for instance 3/min or 10/sec',
    );
  }
  const average = Math.floor(unit[1] / times);
  const burst = options.whole('--limit-burst', 1, 10_000) ?? BURST_DEFAULT;
  const not = options.isNot('--limit');
  let credit = -1;
  let at = 0;
  return {
    name: 'limit',
    save: () =>
      `${not ? ' !' : ''} --limit ${rateText(average)}${burst === BURST_DEFAULT ? '' : ` --limit-burst ${burst}`}`,
    fits: (_, world) => {
      const perTick = creditsPerTick(world.hz);
      const cost = credits(average, world.hz, perTick);
      const cap = credits(average * burst, world.hz, perTick);
      const filled = credit < 0 ? cap : Math.min(cap, credit + (world.jiffies - at) * perTick);
      const fits = filled >= cost;
      if (!world.dry) {
        credit = fits ? filled - cost : filled;
        at = world.jiffies;
      }
      return fits !== not;
    },
    restart: () => {
      credit = -1;
    },
  };
}

/** The largest power of two that keeps a day's credits within 32 bits. */
function creditsPerTick(hz: number): number {
  let power = 1;
  while (power * 2 <= 0xffffffff / (hz * DAY_S)) power *= 2;
  return power;
}

function credits(time: number, hz: number, perTick: number): number {
  if (time > 0xffffffff / (hz * perTick)) return Math.floor(time / SCALE) * hz * perTick;
  return Math.floor((time * hz * perTick) / SCALE);
}

/** The largest unit in which the rate is a whole number, as libxt_limit prints it. */
function rateText(period: number): string {
  let i = 1;
  for (; i < UNITS.length; i++) {
    const [, length] = UNITS[i]!;
    if (period > length || Math.floor(length / period) < length % period) break;
  }
  const [name, length] = UNITS[i - 1]!;
  return `${Math.floor(length / period)}/${name}`;
}
