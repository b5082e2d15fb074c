import { load, loadValue, type LinearizeContext } from './linearize.ts';
import { dataTypesOf } from './linearize-set.ts';
import { linearizeError } from './linearize-value.ts';
import {
  DNAT,
  NAT_FULLY_RANDOM,
  NAT_PERSISTENT,
  NAT_PROTO_SPECIFIED,
  NAT_RANDOM,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  NO_REGISTER,
  REJECT_ICMPX_UNREACH,
  REJECT_ICMP_UNREACH,
  REJECT_TCP_RST,
  SNAT,
  type ProgramBuilder,
} from '../kernel/program.ts';
import type { Expression, Statement } from './statement.ts';

const FLAGS: Readonly<Record<string, number>> = {
  random: NAT_RANDOM,
  persistent: NAT_PERSISTENT,
  'fully-random': NAT_FULLY_RANDOM,
};

/** Codes of reject by type: linux/icmp.h, linux/icmpv6.h, nf_tables.h. */
export const REJECT_CODES: Readonly<Record<string, ReadonlyMap<string, number>>> = {
  icmp: new Map([
    ['net-unreachable', 0],
    ['host-unreachable', 1],
    ['prot-unreachable', 2],
    ['port-unreachable', 3],
    ['frag-needed', 4],
    ['net-prohibited', 9],
    ['host-prohibited', 10],
    ['admin-prohibited', 13],
  ]),
  icmpv6: new Map([
    ['no-route', 0],
    ['admin-prohibited', 1],
    ['addr-unreachable', 3],
    ['port-unreachable', 4],
    ['policy-fail', 5],
    ['reject-route', 6],
  ]),
  icmpx: new Map([
    ['no-route', 0],
    ['port-unreachable', 1],
    ['host-unreachable', 2],
    ['admin-prohibited', 3],
  ]),
};

export function linearizeNat(
  nat: Extract<Statement, { kind: 'nat' }>,
  context: LinearizeContext,
  builder: ProgramBuilder,
): void {
  const address = nat.family === 'ip6' ? 'ipv6_addr' : 'ipv4_addr';
  const registers: { addressMin?: number; addressMax?: number; portMin?: number; portMax?: number } = {};
  let at = 0;
  if (nat.address !== undefined) {
    const types = nat.concatenated ? [address, 'inet_service'] : mapTypes(nat.address, address);
    const [min, max] = operand(nat.address, types, at, context, builder);
    registers.addressMin = min;
    if (max !== undefined) registers.addressMax = max;
    at = (max ?? min) + 4;
    // The map gives both: the port lies in the word behind the address.
    if (types.length > 1) registers.portMin = nat.family === 'ip6' ? 4 : 1;
  }
  let flags = flagBits(nat.flags);
  if (nat.port !== undefined) {
    const [min, max] = operand(nat.port, ['inet_service'], at, context, builder);
    registers.portMin = min;
    if (max !== undefined) registers.portMax = max;
    flags |= NAT_PROTO_SPECIFIED;
  }
  if (nat.address === undefined && nat.port === undefined) {
    throw linearizeError(context, `${nat.type} to nothing`, `write ${nat.type} to ADDRESS or to :PORT`);
  }
  builder.natRange(
    nat.type === 'dnat' ? DNAT : SNAT,
    nat.family === 'ip6' ? NFPROTO_IPV6 : NFPROTO_IPV4,
    registers,
    flags,
  );
}

export function linearizeRedirect(
  statement: Extract<Statement, { kind: 'masquerade' | 'redirect' }>,
  context: LinearizeContext,
  builder: ProgramBuilder,
): void {
  let flags = flagBits(statement.flags);
  let min = NO_REGISTER;
  let max: number | undefined;
  if (statement.port !== undefined) {
    [min, max] = operand(statement.port, ['inet_service'], 0, context, builder);
    flags |= NAT_PROTO_SPECIFIED;
  }
  if (statement.kind === 'masquerade') builder.masq(flags, min, max ?? NO_REGISTER);
  else builder.redir(flags, min, max ?? NO_REGISTER);
}

export function linearizeReject(
  reject: Extract<Statement, { kind: 'reject' }>,
  context: LinearizeContext,
  builder: ProgramBuilder,
): void {
  if (reject.type === 'tcp reset') {
    builder.reject(REJECT_TCP_RST, 0);
    return;
  }
  const codes = REJECT_CODES[reject.type ?? 'icmp']!;
  const code = codes.get(reject.code ?? 'port-unreachable');
  if (code === undefined) {
    throw linearizeError(
      context,
      `reject with ${reject.type} ${reject.code}`,
      `codes are ${[...codes.keys()].join(', ')}`,
    );
  }
  builder.reject(reject.type === 'icmpx' ? REJECT_ICMPX_UNREACH : REJECT_ICMP_UNREACH, code);
}

/** Registers of a value, or of both ends of a range; each takes a register of four words. */
function operand(
  expression: Expression,
  types: readonly string[],
  register: number,
  context: LinearizeContext,
  builder: ProgramBuilder,
): [number, number | undefined] {
  if (expression.kind === 'value' && expression.value.kind === 'range') {
    const { from, to } = expression.value;
    loadValue({ kind: 'value', value: from }, types, register, context, builder);
    loadValue({ kind: 'value', value: to }, types, register + 4, context, builder);
    return [register, register + 4];
  }
  if (expression.kind === 'value' || expression.kind === 'map') {
    loadValue(expression, types, register, context, builder);
  } else load(expression, register, context, builder);
  return [register, undefined];
}

function mapTypes(expression: Expression, address: string): readonly string[] {
  return expression.kind === 'map' ? dataTypesOf([address, 'inet_service'], expression.map) : [address];
}

function flagBits(flags: readonly string[]): number {
  return flags.reduce((bits, flag) => bits | FLAGS[flag]!, 0);
}
