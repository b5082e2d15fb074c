import { sha256 } from '@noble/hashes/sha2.js';
import { utf8ToBytes } from '@noble/hashes/utils.js';

/**
 * The chains of kube-proxy's iptables mode and their names.
 * Source: pkg/proxy/iptables/proxier.go (portProtoHash, servicePortEndpointChainName).
 */

/** Chains that exist once have their kind as their number, in both tables. */
export const PREROUTING = 0;
export const INPUT = 1;
export const FORWARD = 2;
export const OUTPUT = 3;
export const POSTROUTING = 4;
export const KUBE_SERVICES = 5;
export const KUBE_NODEPORTS = 6;
export const KUBE_POSTROUTING = 7;
export const KUBE_MARK_MASQ = 8;
export const KUBE_EXTERNAL_SERVICES = 9;
export const KUBE_FORWARD = 10;
export const KUBE_PROXY_FIREWALL = 11;
export const KUBE_FIREWALL = 12;
export const KUBE_PROXY_CANARY = 13;
/** Kinds from here on have a chain for each service port, and SEP one for each endpoint. */
export const SVC = 14;
export const SVL = 15;
export const EXT = 16;
export const FW = 17;
export const SEP = 18;

export const FIXED_CHAINS = 14;
export const BUILT_IN_CHAINS = 5;

const FIXED_NAMES: readonly string[] = [
  'PREROUTING',
  'INPUT',
  'FORWARD',
  'OUTPUT',
  'POSTROUTING',
  'KUBE-SERVICES',
  'KUBE-NODEPORTS',
  'KUBE-POSTROUTING',
  'KUBE-MARK-MASQ',
  'KUBE-EXTERNAL-SERVICES',
  'KUBE-FORWARD',
  'KUBE-PROXY-FIREWALL',
  'KUBE-FIREWALL',
  'KUBE-PROXY-CANARY',
];
const PREFIXES: readonly string[] = ['KUBE-SVC-', 'KUBE-SVL-', 'KUBE-EXT-', 'KUBE-FW-', 'KUBE-SEP-'];
const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** The first 16 characters of base32(SHA-256(text)): 80 bits, so the digest's first ten bytes. */
export function chainHash(text: string): string {
  const digest = sha256(utf8ToBytes(text));
  let hash = '';
  let bits = 0;
  let held = 0;
  for (let i = 0; i < 10; i++) {
    bits = ((bits << 8) | digest[i]!) & 0xffff;
    held += 8;
    while (held >= 5) {
      held -= 5;
      hash += BASE32[(bits >>> held) & 31]!;
    }
  }
  return hash;
}

export function fixedChainName(kind: number): string {
  return FIXED_NAMES[kind]!;
}

/**
 * Name of a chain of a service port. `portName` is kube-proxy's `namespace/name:port`, `protocol` in lower case.
 * `endpoint`, `address:port`, is given for SEP and empty otherwise.
 */
export function serviceChainName(kind: number, portName: string, protocol: string, endpoint = ''): string {
  return PREFIXES[kind - SVC]! + chainHash(portName + protocol + endpoint);
}
