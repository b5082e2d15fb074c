import { REJECT_ICMPX_UNREACH, REJECT_TCP_RST } from '../kernel/program.ts';

// Codes of ICMP type 3 and ICMPv6 type 1, and nf_tables' own for both (enum nft_reject_inet_code).
const ICMP: Readonly<Record<number, string>> = {
  0: 'net-unreachable',
  1: 'host-unreachable',
  2: 'prot-unreachable',
  3: 'port-unreachable',
  9: 'net-prohibited',
  10: 'host-prohibited',
  13: 'admin-prohibited',
};
const ICMPV6: Readonly<Record<number, string>> = {
  0: 'no-route',
  1: 'admin-prohibited',
  3: 'addr-unreachable',
  4: 'port-unreachable',
  5: 'policy-fail',
  6: 'reject-route',
};
/** Net, port, host unreachable, prohibited: as codes of ICMP and of ICMPv6. */
const ICMPX = { 4: [0, 3, 1, 13], 6: [0, 4, 3, 1] } as const;

/** What the sender of a rejected packet is told, named as nft and iptables name it: `icmp-port-unreachable`. */
export function rejectAnswer(type: number, code: number, family: 4 | 6): string {
  if (type === REJECT_TCP_RST) return 'tcp-reset';
  const own = type === REJECT_ICMPX_UNREACH ? ICMPX[family][code as 0 | 1 | 2 | 3] : code;
  const name = (family === 4 ? ICMP : ICMPV6)[own] ?? `code ${own}`;
  return family === 4 ? `icmp-${name}` : `icmp6-${name}`;
}
