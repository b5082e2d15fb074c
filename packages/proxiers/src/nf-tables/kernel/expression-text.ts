import * as program from './program.ts';

/**
 * Expressions in the words of `nft --debug=netlink`.
 * Source: libnftnl 1.2.4, src/expr/*.c. What is not filled in there (a counter's figures) is told here as well.
 */

/** Names of chains and sets, by number. */
export interface ObjectNames {
  chain(chain: number): string;
  set(set: number): string;
}

const BASES = ['', 'network', 'transport'];
const OPS = ['eq', 'neq', 'lt', 'lte', 'gt', 'gte'];
const META = new Map([
  [program.META_MARK, 'mark'],
  [program.META_IIF, 'iif'],
  [program.META_OIF, 'oif'],
  [program.META_IIFNAME, 'iifname'],
  [program.META_OIFNAME, 'oifname'],
  [program.META_NFPROTO, 'nfproto'],
  [program.META_L4PROTO, 'l4proto'],
]);
const CT = new Map([
  [program.CT_STATE, 'state'],
  [program.CT_STATUS, 'status'],
  [program.CT_MARK, 'mark'],
]);
const FIB_FLAGS: readonly [number, string][] = [
  [program.FIB_SADDR, 'saddr'],
  [program.FIB_DADDR, 'daddr'],
  [program.FIB_MARK, 'mark'],
  [program.FIB_IIF, 'iif'],
  [program.FIB_OIF, 'oif'],
];
const VERDICTS = ['drop', 'accept', 'continue', 'break', 'jump', 'goto', 'return'];
const DYNSET_OPS = ['add', 'update', 'delete'];

/** The expression at `at`, without the brackets: `payload load 4b @ network header + 16 => reg 1`. */
export function expressionText(words: Int32Array, at: number, names: ObjectNames): string {
  const word = words[at]!;
  const a = (word >>> 8) & 255;
  const b = (word >>> 16) & 255;
  const c = word >>> 24;
  const hex = (from: number, count: number): string => hexWords(words, at + from, count);
  switch (word & 255) {
    case program.PAYLOAD: {
      const length = c & 31;
      return `payload load ${length}b @ ${BASES[c >>> 5]} header + ${b} => ${register(a)}`;
    }
    case program.CMP:
      return `cmp ${OPS[b]} ${register(a)} ${hex(1, (c + 3) >> 2)}`;
    case program.RANGE: {
      const count = (c + 3) >> 2;
      return `range ${OPS[b]} ${register(a)} ${hex(1, count)} ${hex(1 + count, count)}`;
    }
    case program.BITWISE: {
      const [from, to] = [register(a), register(b)];
      return `bitwise ${to} = ( ${from} & ${hex(1, c)} ) ^ ${hex(1 + c, c)}`;
    }
    case program.META_LOAD:
      return `meta load ${META.get(a)} => ${register(b)}`;
    case program.META_SET:
      return `meta set ${META.get(a)} with ${register(b)}`;
    case program.CT_LOAD:
      return `ct load ${CT.get(a)} => ${register(b)}`;
    case program.FIB: {
      const flags = FIB_FLAGS.filter(([flag]) => (a & flag) !== 0).map(([, name]) => name);
      return `fib ${flags.join(' . ')} type => ${register(c)}`;
    }
    case program.NUMGEN: {
      const offset = words[at + 2] === 0 ? '' : ` offset ${words[at + 2]}`;
      const mode = a === program.NUMGEN_INC ? 'inc' : 'random';
      return `numgen ${register(b)} = ${mode} mod ${words[at + 1]! >>> 0}${offset}`;
    }
    case program.LOOKUP: {
      const to = b === program.NO_REGISTER ? '' : ` dreg ${b === program.VERDICT ? 0 : number(b)}`;
      return `lookup ${register(a)} set ${names.set(words[at + 1]!)}${to}${c === 1 ? ' 0x1' : ''}`;
    }
    case program.IMMEDIATE:
      return `immediate ${register(a)} ${hex(1, b)}`;
    case program.IMMEDIATE_VERDICT: {
      const kind = program.verdictKind(words[at + 1]!);
      const jumps = kind === program.JUMP || kind === program.GOTO;
      const to = jumps ? ` -> ${names.chain(program.verdictChain(words[at + 1]!))}` : '';
      return `immediate reg 0 ${VERDICTS[kind]}${to}`;
    }
    default:
      return actionText(words, at, names);
  }
}

function actionText(words: Int32Array, at: number, names: ObjectNames): string {
  const word = words[at]!;
  const a = (word >>> 8) & 255;
  const b = (word >>> 16) & 255;
  const c = word >>> 24;
  switch (word & 255) {
    case program.NAT: {
      const registers = words[at + 1]!;
      const parts = ['addr_min', 'addr_max', 'proto_min', 'proto_max'].map((name, i) =>
        optional(name, (registers >>> (8 * i)) & 255),
      );
      const family = b === program.NFPROTO_IPV6 ? 'ip6' : 'ip';
      return `nat ${a === program.DNAT ? 'dnat' : 'snat'} ${family}${parts.join('')}${flagsText(c)}`;
    }
    case program.MASQ:
    case program.REDIR: {
      const name = (word & 255) === program.MASQ ? 'masq' : 'redir';
      return `${name}${optional('proto_min', b)}${optional('proto_max', c)}${flagsText(a)}`;
    }
    case program.REJECT:
      return `reject type ${a} code ${b}`;
    case program.DYNSET: {
      const timeout = words[at + 2] === 0 ? '' : ` timeout ${words[at + 2]}ms`;
      return `dynset ${DYNSET_OPS[a]} reg_key ${number(b)} set ${names.set(words[at + 1]!)}${timeout}`;
    }
    case program.COUNTER:
      return `counter number ${words[at + 1]}`;
    default:
      throw new Error(`no expression has opcode ${word & 255}`);
  }
}

function hexWords(words: Int32Array, at: number, count: number): string {
  const texts: string[] = [];
  for (let i = 0; i < count; i++) texts.push(`0x${(words[at + i]! >>> 0).toString(16).padStart(8, '0')}`);
  return texts.join(' ');
}

function register(word: number): string {
  return `reg ${number(word)}`;
}

/** nft's own numbers 1 to 4 for words 0, 4, 8 and 12, as it uses them; 8 and more for the words between. */
function number(word: number): number {
  return word % 4 === 0 ? 1 + word / 4 : 8 + word;
}

function optional(name: string, word: number): string {
  return word === program.NO_REGISTER ? '' : ` ${name} reg ${number(word)}`;
}

function flagsText(flags: number): string {
  return flags === 0 ? '' : ` flags 0x${flags.toString(16)}`;
}
