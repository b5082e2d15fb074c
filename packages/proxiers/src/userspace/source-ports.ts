import { jhash2, type Stream } from '@vipsim/sim-core';

/** net.ipv4.ip_local_port_range. */
export const LOCAL_PORT_MIN = 32_768;
export const LOCAL_PORT_MAX = 60_999;
export const LOCAL_PORTS = LOCAL_PORT_MAX - LOCAL_PORT_MIN + 1;
/** All ports of the range are taken: EADDRNOTAVAIL. */
export const NO_PORT = -1;

const PERTURBED = 65_536;

/**
 * The port that the kernel gives a socket which connects without having bound one. TCP: a search from an offset
 * that belongs to the destination and moves on with every connection, even ports first, in steps of 2; a port is
 * free if no socket has it towards this destination. UDP: a search from a random port; a port serves one socket.
 * Source: __inet_hash_connect, net/ipv4/inet_hashtables.c; udp_lib_get_port, net/ipv4/udp.c.
 * The destination's offset is SipHash under a boot key in the kernel, jhash under a key of the run's seed here.
 */
export class SourcePorts {
  readonly #chance: Stream;
  readonly #perturbation = new Uint32Array(PERTURBED);
  readonly #key: number;
  readonly #udp = new Uint8Array(65_536);

  constructor(chance: Stream) {
    this.#chance = chance;
    this.#key = chance.uint32();
    for (let i = 0; i < PERTURBED; i++) this.#perturbation[i] = chance.uint32();
  }

  /** `taken(port)`: a socket has this port towards address:port already, or listens on it. */
  tcp(address: number, port: number, taken: (port: number) => boolean): number {
    const slot = jhash2(address, port, this.#key) & (PERTURBED - 1);
    const base = jhash2(port, address, this.#key);
    const offset = ((this.#perturbation[slot]! + base) % LOCAL_PORTS) & ~1;
    for (let parity = 0; parity < 2; parity++) {
      let candidate = LOCAL_PORT_MIN + offset + parity;
      for (let i = 0; i < LOCAL_PORTS; i += 2, candidate += 2) {
        if (candidate > LOCAL_PORT_MAX) candidate -= LOCAL_PORTS;
        if (taken(candidate)) continue;
        const step = Math.max(i, this.#chance.below(8) * 2);
        this.#perturbation[slot] = this.#perturbation[slot]! + step + 2;
        return candidate;
      }
    }
    return NO_PORT;
  }

  udp(): number {
    const start = this.#chance.below(LOCAL_PORTS);
    for (let i = 0; i < LOCAL_PORTS; i++) {
      const port = LOCAL_PORT_MIN + ((start + i) % LOCAL_PORTS);
      if (this.#udp[port] === 1) continue;
      this.#udp[port] = 1;
      return port;
    }
    return NO_PORT;
  }

  /** A UDP port that a listening socket holds, or that is free again. */
  setUdp(port: number, held: boolean): void {
    this.#udp[port] = held ? 1 : 0;
  }
}
