import * as P from '../src/nf-tables/kernel/program.ts';

const META = new Map([
  [P.META_MARK, 'mark'],
  [P.META_IIF, 'iif'],
  [P.META_OIF, 'oif'],
  [P.META_IIFNAME, 'iifname'],
  [P.META_OIFNAME, 'oifname'],
  [P.META_NFPROTO, 'nfproto'],
  [P.META_L4PROTO, 'l4proto'],
]);
const CT = new Map([
  [P.CT_STATE, 'state'],
  [P.CT_STATUS, 'status'],
  [P.CT_MARK, 'mark'],
]);
const OPS = ['eq', 'neq', 'lt', 'lte', 'gt', 'gte'];
const VERDICTS = ['drop', 'accept', 'continue', 'break', 'jump', 'goto', 'return'];

/** The expressions of the rules in a builder, as `nft --debug=netlink` prints them, one string each. */
export function netlinkText(
  builder: P.ProgramBuilder,
  setName: (set: number) => string,
  chainName: (chain: number) => string,
): string[] {
  const { words } = builder;
  const out: string[] = [];
  P.forEachRule(words, 0, builder.length, (rule) => {
    P.forEachExpression(words, rule, (at, opcode) => {
      out.push(`[ ${text(words, at, opcode, setName, chainName)} ]`);
    });
  });
  return out;
}

function reg(word: number): string {
  if (word === P.VERDICT) return 'reg 0';
  return `reg ${word % 4 === 0 ? 1 + word / 4 : 8 + word}`;
}

function hex(words: Int32Array, at: number, count: number): string {
  return Array.from(
    { length: count },
    (_, i) => `0x${(words[at + i]! >>> 0).toString(16).padStart(8, '0')}`,
  ).join(' ');
}

function text(
  words: Int32Array,
  at: number,
  opcode: number,
  setName: (set: number) => string,
  chainName: (chain: number) => string,
): string {
  const a = (words[at]! >>> 8) & 255;
  const b = (words[at]! >>> 16) & 255;
  const c = words[at]! >>> 24;
  const next = words[at + 1]!;
  switch (opcode) {
    case P.PAYLOAD: {
      const base = c >> 5 === P.NETWORK ? 'network' : 'transport';
      return `payload load ${c & 31}b @ ${base} header + ${b} => ${reg(a)}`;
    }
    case P.CMP:
      return `cmp ${OPS[b]} ${reg(a)} ${hex(words, at + 1, (c + 3) >> 2)}`;
    case P.RANGE: {
      const count = (c + 3) >> 2;
      return `range ${OPS[b]} ${reg(a)} ${hex(words, at + 1, count)} ${hex(words, at + 1 + count, count)}`;
    }
    case P.BITWISE:
      return `bitwise ${reg(b)} = ( ${reg(a)} & ${hex(words, at + 1, c)} ) ^ ${hex(words, at + 1 + c, c)}`;
    case P.META_LOAD:
      return `meta load ${META.get(a)} => ${reg(b)}`;
    case P.META_SET:
      return `meta set ${META.get(a)} with ${reg(b)}`;
    case P.CT_LOAD:
      return `ct load ${CT.get(a)} => ${reg(b)}`;
    case P.FIB: {
      const flags = ['saddr', 'daddr', 'mark', 'iif', 'oif'].filter((_, i) => (a >> i) & 1);
      return `fib ${flags.join(' . ')} type => ${reg(c)}`;
    }
    case P.NUMGEN: {
      const offset = words[at + 2] === 0 ? '' : ` offset ${words[at + 2]}`;
      return `numgen ${reg(b)} = ${a === P.NUMGEN_INC ? 'inc' : 'random'} mod ${next}${offset}`;
    }
    case P.LOOKUP: {
      const dreg = b === P.NO_REGISTER ? '' : ` d${reg(b)}`;
      return `lookup ${reg(a)} set ${setName(next)}${dreg}${c === 1 ? ' 0x1' : ''}`;
    }
    case P.IMMEDIATE:
      return `immediate ${reg(a)} ${hex(words, at + 1, b)}`;
    case P.IMMEDIATE_VERDICT: {
      const kind = P.verdictKind(next);
      const jumps = kind === P.JUMP || kind === P.GOTO;
      return `immediate reg 0 ${VERDICTS[kind]}${jumps ? ` -> ${chainName(P.verdictChain(next))}` : ''}`;
    }
    case P.NAT: {
      const names = ['addr_min', 'addr_max', 'proto_min', 'proto_max'];
      const registers = names.map((name, i) => {
        const register = (next >>> (8 * i)) & 255;
        return register === P.NO_REGISTER ? '' : ` ${name} ${reg(register)}`;
      });
      const family = b === P.NFPROTO_IPV4 ? 'ip' : 'ip6';
      return `nat ${a === P.DNAT ? 'dnat' : 'snat'} ${family}${registers.join('')}${flagText(c)}`;
    }
    case P.MASQ:
    case P.REDIR: {
      const ports = [b, c].map((register, i) =>
        register === P.NO_REGISTER ? '' : ` proto_${i === 0 ? 'min' : 'max'} ${reg(register)}`,
      );
      return `${opcode === P.MASQ ? 'masq' : 'redir'}${ports.join('')}${flagText(a)}`;
    }
    case P.REJECT:
      return `reject type ${a} code ${b}`;
    case P.DYNSET: {
      const timeout = words[at + 2] === 0 ? '' : ` timeout ${words[at + 2]}ms`;
      return `dynset ${['add', 'update', 'delete'][a]} reg_key ${reg(b).slice(4)} set ${setName(next)}${timeout}`;
    }
    case P.COUNTER:
      return 'counter pkts 0 bytes 0';
    default:
      return `opcode ${opcode}`;
  }
}

function flagText(bits: number): string {
  return bits === 0 ? '' : ` flags 0x${bits.toString(16)}`;
}
