import { netmask } from '@vipsim/sim-core';
import {
  FORWARD,
  INPUT,
  KUBE_EXTERNAL_SERVICES,
  KUBE_FIREWALL,
  KUBE_FORWARD,
  KUBE_MARK_MASQ,
  KUBE_NODEPORTS,
  KUBE_POSTROUTING,
  KUBE_PROXY_CANARY,
  KUBE_PROXY_FIREWALL,
  KUBE_SERVICES,
  OUTPUT,
  POSTROUTING,
  PREROUTING,
} from './chains.ts';
import {
  ACCEPT,
  COMMENT,
  CT_DNAT,
  CT_ESTABLISHED,
  CT_INVALID,
  CT_NEW,
  CT_RELATED,
  DESTINATION,
  DROP_PACKET,
  EXTERNAL_PORTALS,
  FORWARDING,
  FORWARDING_CONNTRACK,
  HEALTH_CHECK_PORTS,
  JUMP,
  LOAD_BALANCER_FIREWALL,
  LOCALNET,
  MARK,
  MARK_NOT,
  MARK_OR,
  MARK_XOR,
  MASQUERADE,
  NFACCT,
  PORTALS,
  POSTROUTING_RULES,
  REQUIRES_SNAT,
  RETURN,
  SNAT,
  SOURCE_NOT,
  STATE,
  STATE_FIRST,
  STATE_NOT,
} from './rule.ts';
import type { RuleTable } from './rule-table.ts';
import type { RulesetOptions } from './ruleset-options.ts';

/**
 * Rules that do not depend on any Service, and the jumps from the built-in chains. kube-proxy prepends the jumps
 * one after the other, so that a clean host holds them in reverse.
 * Source: iptablesJumpChains, iptablesKubeletJumpChains and syncProxyRules in pkg/proxy/iptables/proxier.go.
 */

const LOOPBACK = 0x7f000000;

/** Stage the built-in chains of both tables and what never changes in them. */
export function stageFixed(nat: RuleTable, filter: RuleTable, options: RulesetOptions): void {
  stageNat(nat, options);
  stageFilterHooks(filter);
  stageFilter(filter, options);
}

function stageNat(nat: RuleTable, { mark, snat }: RulesetOptions): void {
  nat.begin(PREROUTING);
  nat.add(COMMENT, JUMP, KUBE_SERVICES, PORTALS);
  nat.begin(INPUT);
  nat.begin(OUTPUT);
  nat.add(COMMENT, JUMP, KUBE_SERVICES, PORTALS);
  nat.begin(POSTROUTING);
  nat.add(COMMENT, JUMP, KUBE_POSTROUTING, POSTROUTING_RULES);
  nat.begin(KUBE_PROXY_CANARY);

  nat.begin(KUBE_POSTROUTING);
  setValue(nat, nat.add(MARK_NOT, RETURN, 0, 0), mark);
  // The mark is cleared lest the packet be masqueraded again when it comes back through an overlay.
  setValue(nat, nat.add(0, MARK_XOR, 0, 0), mark);
  nat.add(COMMENT, snat ? SNAT : MASQUERADE, 0, REQUIRES_SNAT);
  nat.begin(KUBE_MARK_MASQ);
  setValue(nat, nat.add(0, MARK_OR, 0, 0), mark);
}

function stageFilterHooks(filter: RuleTable): void {
  filter.begin(INPUT);
  filter.add(0, JUMP, KUBE_FIREWALL, 0);
  addNewJump(filter, KUBE_PROXY_FIREWALL, LOAD_BALANCER_FIREWALL);
  filter.add(COMMENT, JUMP, KUBE_NODEPORTS, HEALTH_CHECK_PORTS);
  addNewJump(filter, KUBE_EXTERNAL_SERVICES, EXTERNAL_PORTALS);
  filter.begin(FORWARD);
  addNewJump(filter, KUBE_PROXY_FIREWALL, LOAD_BALANCER_FIREWALL);
  filter.add(COMMENT, JUMP, KUBE_FORWARD, FORWARDING);
  addNewJump(filter, KUBE_SERVICES, PORTALS);
  addNewJump(filter, KUBE_EXTERNAL_SERVICES, EXTERNAL_PORTALS);
  filter.begin(OUTPUT);
  filter.add(0, JUMP, KUBE_FIREWALL, 0);
  addNewJump(filter, KUBE_PROXY_FIREWALL, LOAD_BALANCER_FIREWALL);
  addNewJump(filter, KUBE_SERVICES, PORTALS);
  filter.begin(KUBE_PROXY_CANARY);
}

function stageFilter(filter: RuleTable, options: RulesetOptions): void {
  filter.begin(KUBE_FIREWALL);
  if (options.localhostNodePorts) addLocalnet(filter);

  filter.begin(KUBE_FORWARD);
  // The value serves both tests: CT_INVALID and the counter of invalid packets have the same number.
  if (!options.tcpBeLiberal) {
    const match = options.nfacct ? STATE | NFACCT : STATE;
    setValue(filter, filter.add(match, DROP_PACKET, 0, 0), CT_INVALID);
  }
  setValue(filter, filter.add(COMMENT | MARK, ACCEPT, 0, FORWARDING), options.mark);
  const known = filter.add(COMMENT | STATE, ACCEPT, 0, FORWARDING_CONNTRACK);
  setValue(filter, known, CT_RELATED | CT_ESTABLISHED);
}

/** With node ports on localhost, route_localnet lets packets for 127.0.0.0/8 in from outside. */
function addLocalnet(filter: RuleTable): void {
  const localnet = filter.add(COMMENT | DESTINATION | SOURCE_NOT | STATE_NOT, DROP_PACKET, 0, LOCALNET);
  filter.rules.source[localnet] = LOOPBACK;
  filter.rules.sourceMask[localnet] = netmask(8);
  filter.rules.destination[localnet] = LOOPBACK;
  filter.rules.destinationMask[localnet] = netmask(8);
  setValue(filter, localnet, CT_RELATED | CT_ESTABLISHED | CT_DNAT);
}

function addNewJump(filter: RuleTable, chain: number, about: number): void {
  setValue(filter, filter.add(COMMENT | STATE | STATE_FIRST, JUMP, chain, about), CT_NEW);
}

function setValue(table: RuleTable, row: number, value: number): void {
  table.rules.value[row] = value;
}
