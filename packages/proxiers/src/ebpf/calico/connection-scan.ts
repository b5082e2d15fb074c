import { swap32 } from '@vipsim/sim-core';
import type { Counts } from '../../cost/operations.ts';
import { GC_ENTRY, SYSCALL_DELETE, SYSCALL_LOOKUP } from '../operations.ts';
import { isExpired, isNew } from './connection-lifetime.ts';
import { FORWARD, NORMAL, REVERSE, type Conntrack } from './conntrack.ts';

const SECOND = 1_000_000_000;
/** felix/bpf/conntrack/timeouts: ScanPeriod. */
export const SCAN_PERIOD = 10 * SECOND;

/** What the syncer knows of a frontend's endpoints: those that are ready, and those that terminate. */
export interface FrontendEndpoints {
  has(address: number, port: number, protocol: number, endpoint: number, endpointPort: number): boolean;
}

/**
 * Felix's walk over all connections every ten seconds: it deletes what has expired, and translated flows whose
 * endpoint is none of their frontend's any more. A forward entry goes by the state of its reverse one, which costs a
 * lookup; each entry is judged when the walk comes to it, so a reverse entry may go before its forward one.
 * Source: felix/bpf/conntrack/{scanner,cleanup}.go. Not modelled: the newer walk inside the kernel.
 */
export class ConnectionScan {
  readonly #conntrack: Conntrack;
  readonly #endpoints: FrontendEndpoints;
  #nextNs = SCAN_PERIOD;
  #doomed = new Int32Array(64);

  constructor(conntrack: Conntrack, endpoints: FrontendEndpoints) {
    this.#conntrack = conntrack;
    this.#endpoints = endpoints;
  }

  /** Scan if it is time; the work is added to `counts`. */
  run(nowNs: number, counts: Counts): void {
    if (nowNs < this.#nextNs) return;
    this.#nextNs = nowNs - (nowNs % SCAN_PERIOD) + SCAN_PERIOD;
    const { map } = this.#conntrack;
    let doomed = 0;
    for (let element = 0; element < map.used; element++) {
      if (!map.live(element)) continue;
      counts[GC_ENTRY]! += 1;
      if (!this.#isDead(element, nowNs, counts)) continue;
      if (doomed === this.#doomed.length) this.#doomed = widened(this.#doomed);
      this.#doomed[doomed++] = element;
    }
    for (let i = 0; i < doomed; i++) {
      map.loadKey(this.#doomed[i]!);
      map.remove();
      counts[SYSCALL_DELETE]! += 1;
    }
  }

  #isDead(element: number, nowNs: number, counts: Counts): boolean {
    const conntrack = this.#conntrack;
    if (conntrack.kind(element) === NORMAL) return isExpired(conntrack, element, nowNs);
    if (conntrack.kind(element) === REVERSE) {
      return isExpired(conntrack, element, nowNs) || this.#isStale(element);
    }
    counts[SYSCALL_LOOKUP]! += 1;
    const reverse = conntrack.reverseOf(element);
    if (reverse < 0) return !isNew(conntrack, element, nowNs);
    return (
      conntrack.kind(reverse) === FORWARD || isExpired(conntrack, reverse, nowNs) || this.#isStale(reverse)
    );
  }

  /** Neither side of a reverse entry is an endpoint of the service that the client asked. */
  #isStale(reverse: number): boolean {
    const conntrack = this.#conntrack;
    const { map } = conntrack;
    const address = conntrack.originalAddress(reverse);
    const port = conntrack.originalPort(reverse);
    const protocol = map.keyWord(reverse, 0);
    const ports = map.keyWord(reverse, 3);
    const a = swap32(map.keyWord(reverse, 1));
    const b = swap32(map.keyWord(reverse, 2));
    return (
      !this.#endpoints.has(address, port, protocol, a, ports & 0xffff) &&
      !this.#endpoints.has(address, port, protocol, b, ports >>> 16)
    );
  }
}

function widened(column: Int32Array): Int32Array<ArrayBuffer> {
  const wider = new Int32Array(column.length * 2);
  wider.set(column);
  return wider;
}
