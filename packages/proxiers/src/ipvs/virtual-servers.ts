import { longer } from '@vipsim/sim-core';

const NONE = -1;
const BUCKETS = 256;

/**
 * Bucket of a virtual server: only eight bits survive, so that of addresses just the last octet counts.
 * Source: ip_vs_svc_hashkey, net/netfilter/ipvs/ip_vs_ctl.c, without the constant that each network namespace adds.
 */
export function serviceBucket(protocol: number, address: number, port: number): number {
  return (protocol ^ address ^ (port >>> 8) ^ port) & (BUCKETS - 1);
}

/**
 * Virtual servers: 256 hash chains for the whole host, a new one at the head of its chain. With V servers a
 * search compares about V/512 of them on a hit and V/256 on a miss: not constant.
 * Source: net/netfilter/ipvs/ip_vs_ctl.c, Linux up to 7.0; 7.1 makes the table resizable.
 * Not modelled: fwmark services, port-0 services, FTP, IPv6.
 */
export class VirtualServers {
  count = 0;
  /** Chain entries compared since the caller last set it to zero. */
  probes = 0;
  address: Uint32Array = new Uint32Array(16);
  port: Uint16Array = new Uint16Array(16);
  protocol: Uint8Array = new Uint8Array(16);
  /** Session affinity in seconds; 0 without. */
  persistenceS: Uint32Array = new Uint32Array(16);
  /** First of the list of real servers, the newest; -1 when empty. */
  head: Int32Array = new Int32Array(16);
  /** Length of that list. */
  servers: Uint32Array = new Uint32Array(16);
  readonly #chains = new Int32Array(BUCKETS).fill(NONE);
  #next = new Int32Array(16);

  add(protocol: number, address: number, port: number, persistenceS: number): number {
    const at = this.count++;
    if (at === this.address.length) this.#grow(at * 2);
    this.address[at] = address;
    this.port[at] = port;
    this.protocol[at] = protocol;
    this.persistenceS[at] = persistenceS;
    this.head[at] = NONE;
    const bucket = serviceBucket(protocol, address, port);
    this.#next[at] = this.#chains[bucket]!;
    this.#chains[bucket] = at;
    return at;
  }

  /** The virtual server of exactly this protocol, address and port; -1 if there is none. */
  find(protocol: number, address: number, port: number): number {
    let at = this.#chains[serviceBucket(protocol, address, port)]!;
    while (at !== NONE) {
      this.probes++;
      if (this.address[at] === address && this.port[at] === port && this.protocol[at] === protocol) return at;
      at = this.#next[at]!;
    }
    return NONE;
  }

  #grow(capacity: number): void {
    this.address = longer(this.address, capacity);
    this.port = longer(this.port, capacity);
    this.protocol = longer(this.protocol, capacity);
    this.persistenceS = longer(this.persistenceS, capacity);
    this.head = longer(this.head, capacity);
    this.servers = longer(this.servers, capacity);
    this.#next = longer(this.#next, capacity);
  }
}
