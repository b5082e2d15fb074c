/**
 * What a rule tests and does, in bits and small numbers. The tests are evaluated in the order in which kube-proxy
 * writes them: comment, addrtype, tcp or udp, mark, conntrack, statistic; protocol and addresses, which belong to
 * the rule's own selector, come before all of them.
 */

export const COMMENT = 1;
/** `-m addrtype --dst-type LOCAL`, `--src-type LOCAL`. */
export const TO_LOCAL = 2;
export const FROM_LOCAL = 4;
/** `-m tcp -p tcp`; the protocol's number is in its own column. */
export const PROTOCOL = 8;
/** `--dport`. */
export const PORT = 16;
export const DESTINATION = 32;
export const SOURCE = 64;
/** `! -s`. */
export const SOURCE_NOT = 128;
/** `-m mark --mark value/value`. */
export const MARK = 256;
export const MARK_NOT = 512;
/** `-m conntrack --ctstate`, the states in the value column. */
export const STATE = 1024;
export const STATE_NOT = 2048;
/** The jumps from built-in chains write conntrack before their comment. */
export const STATE_FIRST = 4096;
/** `-m statistic --mode random`, the threshold in the value column. */
export const STATISTIC = 8192;

/** `-m recent --rcheck --seconds … --reap` on the list of the chain jumped to; the seconds in the value column. */
export const RECENT_CHECK = 16384;
/** `-m recent --set` on the list of the rule's own chain. */
export const RECENT_SET = 32768;
/** `! -d`. */
export const DESTINATION_NOT = 65536;
/** `-i`, the interface or prefix by which the local detector tells pods. */
export const FROM_LINK = 131072;
/** `! -i`. */
export const FROM_LINK_NOT = 262144;
/** `-m nfacct`, the counter in the value column. */
export const NFACCT = 524288;

/** The shape of nearly all rules of KUBE-SERVICES. */
export const SERVICE_SHAPE = COMMENT | PROTOCOL | PORT | DESTINATION;

/** Bits of the conntrack state of a packet, as `--ctstate` names them. */
export const CT_INVALID = 1;
export const CT_ESTABLISHED = 2;
export const CT_RELATED = 4;
export const CT_NEW = 8;
export const CT_DNAT = 16;

/** No target: the rule only counts. */
export const NOTHING = 0;
/** The argument is a chain. */
export const JUMP = 1;
export const RETURN = 2;
export const ACCEPT = 3;
export const DROP_PACKET = 4;
export const REJECT_PACKET = 5;
/** The argument is an endpoint row. */
export const DNAT = 6;
export const MASQUERADE = 7;
/** The mark is in the value column. */
export const MARK_OR = 8;
export const MARK_XOR = 9;
/** To this node's address. */
export const SNAT = 10;

/** 1 << masqueradeBit, kube-proxy's default bit 14. */
export const MASQUERADE_MARK = 0x4000;

/** What a comment says; `N` stands for the name of the service port. */
export const CLUSTER_IP = 1;
export const EXTERNAL_IP = 2;
export const LOAD_BALANCER_IP = 3;
export const BARE_NAME = 4;
export const NO_ENDPOINTS = 5;
export const NO_LOCAL_ENDPOINTS = 6;
export const HEALTH_CHECK = 7;
export const NOT_ACCEPTED = 8;
export const MASQUERADE_EXTERNAL = 9;
export const POD_TRAFFIC = 10;
export const MASQUERADE_LOCAL = 11;
export const ROUTE_LOCAL = 12;
export const OTHER_TRAFFIC = 13;
export const TO_ENDPOINT = 14;
export const REQUIRES_SNAT = 15;
export const NODE_PORTS_LAST = 16;
export const LOCALNET = 17;
export const FORWARDING = 18;
export const FORWARDING_CONNTRACK = 19;
export const EXTERNAL_PORTALS = 20;
export const HEALTH_CHECK_PORTS = 21;
export const PORTALS = 22;
export const LOAD_BALANCER_FIREWALL = 23;
export const POSTROUTING_RULES = 24;
