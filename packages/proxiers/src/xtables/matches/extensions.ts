import type { OptionNames, Options } from '../options.ts';
import { quoted } from '../token.ts';
import type { Match } from '../rule.ts';
import { LIMIT_OPTIONS, limitMatch } from './limit.ts';
import { RECENT_OPTIONS, recentMatch } from './recent.ts';
import {
  ADDRTYPE_OPTIONS,
  COMMENT_OPTIONS,
  CONNTRACK_OPTIONS,
  MARK_OPTIONS,
  NFACCT_OPTIONS,
  STATE_OPTIONS,
  addrtypeMatch,
  markMatch,
  stateMatch,
} from './state.ts';
import { STATISTIC_OPTIONS, statisticMatch } from './statistic.ts';
import {
  MULTIPORT_OPTIONS,
  PORT_OPTIONS,
  TCP_OPTIONS,
  icmpMatch,
  multiportMatch,
  transportMatch,
} from './transport.ts';

export interface MatchExtension {
  readonly options: OptionNames;
  build(options: Options): Match;
}

/** The matches that are modelled, by the word behind `-m`. */
export const MATCHES: Readonly<Record<string, MatchExtension>> = {
  tcp: { options: TCP_OPTIONS, build: (options) => transportMatch('tcp', options) },
  udp: { options: PORT_OPTIONS, build: (options) => transportMatch('udp', options) },
  sctp: { options: PORT_OPTIONS, build: (options) => transportMatch('sctp', options) },
  icmp: {
    options: { '--icmp-type': ['--icmp-type', 1] },
    build: (options) => icmpMatch('icmp', options),
  },
  icmp6: {
    options: { '--icmpv6-type': ['--icmpv6-type', 1] },
    build: (options) => icmpMatch('icmp6', options),
  },
  multiport: { options: MULTIPORT_OPTIONS, build: multiportMatch },
  conntrack: { options: CONNTRACK_OPTIONS, build: (options) => stateMatch('conntrack', options) },
  state: { options: STATE_OPTIONS, build: (options) => stateMatch('state', options) },
  mark: { options: MARK_OPTIONS, build: markMatch },
  addrtype: { options: ADDRTYPE_OPTIONS, build: addrtypeMatch },
  statistic: { options: STATISTIC_OPTIONS, build: statisticMatch },
  recent: { options: RECENT_OPTIONS, build: recentMatch },
  limit: { options: LIMIT_OPTIONS, build: limitMatch },
  comment: { options: COMMENT_OPTIONS, build: (options) => alwaysMatch('comment', '--comment', options) },
  nfacct: { options: NFACCT_OPTIONS, build: (options) => alwaysMatch('nfacct', '--nfacct-name', options) },
};

/** Matches every packet: it is there to be read or to count. */
function alwaysMatch(name: string, option: string, options: Options): Match {
  const text = options.needed(option);
  return { name, save: () => ` ${option} ${quoted(text)}`, fits: () => true };
}
