import { formatAddress, parseAddress, prefixMask } from '../../netfilter/address.ts';
import type { OptionNames, Options } from '../options.ts';
import { quoted } from '../token.ts';
import type { Match } from '../rule.ts';
import type { Skb, World } from '../skb.ts';

export const RECENT_OPTIONS: OptionNames = {
  '--set': ['--set', 0],
  '--rcheck': ['--rcheck', 0],
  '--update': ['--update', 0],
  '--remove': ['--remove', 0],
  '--seconds': ['--seconds', 1],
  '--reap': ['--reap', 0],
  '--hitcount': ['--hitcount', 1],
  '--rttl': ['--rttl', 0],
  '--name': ['--name', 1],
  '--mask': ['--mask', 1],
  '--rsource': ['--rsource', 0],
  '--rdest': ['--rdest', 0],
};

const ACTIONS = ['--set', '--rcheck', '--update', '--remove'];

/** `-m recent`. Source: recent_mt in net/netfilter/xt_recent.c; the lists themselves are in recent.ts. */
export function recentMatch(options: Options): Match {
  const actions = ACTIONS.filter((action) => options.has(action));
  if (actions.length !== 1) {
    throw options.fault(`wants one of ${ACTIONS.join(', ')}`, 'say what the rule is to do with the list');
  }
  const action = actions[0]!;
  const not = options.isNot(action);
  const seconds = options.whole('--seconds', 1, 0xffffffff) ?? 0;
  const hits = options.whole('--hitcount', 0, 255) ?? 0;
  const reaps = options.has('--reap');
  if (reaps && seconds === 0) throw options.fault('--reap needs --seconds', 'add --seconds N');
  const name = options.text('--name') ?? 'DEFAULT';
  const mask =
    options.text('--mask') === undefined
      ? prefixMask(128, options.family)
      : parseAddress(options.text('--mask')!, options.family);
  if (mask === undefined) throw options.fault('--mask is not an address', 'write it like 255.255.255.0');
  const side = options.has('--rdest') ? '--rdest' : '--rsource';
  const text =
    `${not ? ' !' : ''} ${action}${seconds > 0 ? ` --seconds ${seconds}` : ''}${reaps ? ' --reap' : ''}` +
    `${hits > 0 ? ` --hitcount ${hits}` : ''}${options.has('--rttl') ? ' --rttl' : ''}` +
    ` --name ${quoted(name)} --mask ${formatAddress(mask)} ${side}`;
  const settings = { action, seconds, hits, reaps, name };
  return {
    name: 'recent',
    list: { name, hits },
    save: () => text,
    fits: (skb, world) => {
      const address = side === '--rsource' ? skb.source : skb.destination;
      const key = address.map((word, i) => (word & mask[i]!) >>> 0);
      return visits(settings, key, world) !== not;
    },
  };
}

interface Settings {
  readonly action: string;
  readonly seconds: number;
  readonly hits: number;
  readonly reaps: boolean;
  readonly name: string;
}

/** The kernel's answer before its inversion, and what it does to the list on the way. */
function visits(settings: Settings, address: Skb['source'], world: World): boolean {
  const { action, seconds, hits } = settings;
  const list = world.recent.get(settings.name);
  const entry = list.find(address);
  const now = world.jiffies;
  if (entry === undefined) {
    if (action !== '--set') return false;
    if (!world.dry) list.add(address, now);
    return true;
  }
  if (action === '--set') {
    if (!world.dry) list.touch(entry, now);
    return true;
  }
  if (action === '--remove') {
    if (!world.dry) list.remove(entry);
    return true;
  }
  const since = now - seconds * world.hz;
  const young = seconds === 0 ? entry.stamps.length : entry.stamps.filter((stamp) => stamp >= since).length;
  const found = young >= Math.max(1, hits);
  if (world.dry) return found;
  if (settings.reaps) list.reap(since);
  if (action === '--update' && found) list.touch(entry, now);
  return found;
}
