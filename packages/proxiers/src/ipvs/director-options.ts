import type { AddressFamily } from '@vipsim/sim-core';
import type { OverloadRule } from './real-servers.ts';
import type { SchedulerName } from './schedulers/create.ts';
import type { LoadFormula } from './schedulers/least.ts';
import type { Draws } from './schedulers/options.ts';
import type { ServiceTable } from './virtual-servers.ts';

export interface DirectorOptions {
  /** Of virtual servers that name none. */
  readonly scheduler: SchedulerName;
  readonly connTabBits: number;
  /** `growing` from Linux 7.1 on; `fixed` unless given. */
  readonly serviceTable?: ServiceTable;
  /** The hash seed that the kernel draws at boot. */
  readonly seed: number;
  /** net/ipv4/vs/expire_nodest_conn: entries of a removed server go with it. */
  readonly expireNodest: boolean;
  /** net/ipv4/vs/conn_reuse_mode: 0 keeps the old entry, 1 and 2 open a new one where the old is closed. */
  readonly reuseMode: 0 | 1 | 2;
  /** net/ipv4/vs/expire_quiescent_template: a template ends when its server has weight 0. */
  readonly expireQuiescentTemplate?: boolean;
  /** net/ipv4/vs/sloppy_tcp: a connection may be picked up in its midst. */
  readonly sloppyTcp?: boolean;
  /** net/ipv4/vs/am_droprate with drop_packet=3: each so manieth packet that would open a connection is dropped. */
  readonly dropEach?: number;
  /** net/ipv4/vs/drop_entry=3, and what it draws the chains from that it looks at. */
  readonly dropEntry?: Draws;
  readonly loadFormula?: LoadFormula;
  readonly overloadRule?: OverloadRule;
  /** Of the addresses in columns and packets: IPv4 unless given. */
  readonly family?: AddressFamily;
  /** CONFIG_HZ, 250 unless given: how finely timers run. */
  readonly hz?: number;
  /** Jiffies at virtual time 0; those of a machine that has just started unless given. */
  readonly jiffies?: number;
  /** CONFIG_IP_VS_MH_TAB_INDEX. */
  readonly mhTableIndex?: number;
  /** What the scheduler twos draws from. */
  readonly draws?: Draws;
}

/** What `ipvsadm -A` and `-E` set of a virtual server. */
export interface ServiceSettings {
  readonly scheduler?: SchedulerName;
  /** Scheduler flag sh-port or mh-port. */
  readonly port?: boolean;
  /** Scheduler flag sh-fallback or mh-fallback. */
  readonly fallback?: boolean;
  /** Session affinity; 0 without. */
  readonly persistenceS?: number;
  /** Which clients share a template, as mask columns of the family have it; each has its own unless given. */
  readonly netmask?: number;
  /** Each datagram is scheduled by itself. */
  readonly onePacket?: boolean;
}

/** What `ipvsadm -a` and `-e` set of a real server. */
export interface ServerSettings {
  readonly weight: number;
  /** Thresholds of connections; 0 without. */
  readonly upper?: number;
  readonly lower?: number;
}

/** Seconds that `ipvsadm --set tcp tcpfin udp` sets; 0 or none keeps what is. */
export interface Timeouts {
  readonly tcpS?: number;
  readonly tcpFinS?: number;
  readonly udpS?: number;
}

/** How connections are weighed and thresholds kept by a Linux version; both changed in stable trees in mid 2026. */
export function kernelOptions(
  version: string,
): Pick<DirectorOptions, 'loadFormula' | 'overloadRule' | 'serviceTable'> {
  const [major = 0, minor = 0, patch = 0] = (/\d+(\.\d+)*/.exec(version)?.[0] ?? '').split('.').map(Number);
  const since = CHANGED.find((known) => known[0] === major && known[1] === minor)?.[2];
  const changed = since === undefined ? major > 7 || (major === 7 && minor >= 1) : patch >= since;
  const serviceTable = major > 7 || (major === 7 && minor >= 1) ? 'growing' : 'fixed';
  return changed
    ? { loadFormula: 257, overloadRule: 'by-edit-too', serviceTable }
    : { loadFormula: 256, overloadRule: 'by-connection', serviceTable };
}

/** Stable trees that are known to have the change, with the patch level at which it was seen. */
const CHANGED: readonly (readonly [number, number, number])[] = [
  [6, 1, 192],
  [6, 12, 117],
];
