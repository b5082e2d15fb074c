import type { Wait } from '../proxier.ts';

/** As kube-proxy asks of every iptables command: `-w 5`. */
const PATIENCE_NS = 5_000_000_000;

/**
 * The lock of iptables-legacy, /run/xtables.lock, and another program that takes it now and then.
 *
 * Models: one other program that comes every `everyNs`, waits while we hold the lock, and then keeps it for
 * `heldNs`; who waits sleeps in flock and gets the lock the moment it is free; kube-proxy's commands give up after
 * 5 s with exit status 4. iptables holds the lock for the life of the process, iptables-restore from a table's line
 * `*nat` to its COMMIT; iptables-save takes none, nor does any command of the nft backend.
 * Source: xtables_lock in iptables/xshared.c and iptables-restore.c (iptables 1.8.9); WaitSecondsValue in
 * pkg/util/iptables/iptables.go. Before 1.8.8 iptables polled, every 100 ms with the -W that kube-proxy gave.
 * Not modelled: several others in a queue; what the other program changes in the tables.
 */
export class XtablesLock {
  readonly #everyNs: number;
  readonly #heldNs: number;
  /** When the other program last came or will come next; it holds the lock from then on. */
  #takenNs: number;
  #ours = false;

  /** `phaseNs`: when it comes first. */
  constructor(other: { readonly everyNs: number; readonly heldNs: number; readonly phaseNs: number }) {
    this.#everyNs = Math.max(other.everyNs, other.heldNs);
    this.#heldNs = other.heldNs;
    this.#takenNs = other.phaseNs;
  }

  /** Ask for the lock. Without a failure it is ours after the wait, until it is given back. */
  take(nowNs: number): Wait {
    let ns = 0;
    if (nowNs >= this.#takenNs) {
      this.#takenNs += Math.floor((nowNs - this.#takenNs) / this.#everyNs) * this.#everyNs;
      ns = Math.max(0, this.#takenNs + this.#heldNs - nowNs);
      if (ns > PATIENCE_NS) return { ns: PATIENCE_NS, failure: this.#failure() };
      this.#takenNs += this.#everyNs;
    }
    this.#ours = true;
    return { ns };
  }

  /** Does nothing if it is not ours. */
  giveBack(nowNs: number): void {
    if (!this.#ours) return;
    this.#ours = false;
    // Who came meanwhile has waited.
    if (this.#takenNs < nowNs) this.#takenNs = nowNs;
  }

  #failure(): NonNullable<Wait['failure']> {
    return {
      error: 'exit status 4',
      message:
        `another program kept /run/xtables.lock for ${this.#heldNs / 1e9} s (iptables.lockHeld) and iptables stopped ` +
        'waiting after 5 s: kube-proxy tries again after syncPeriod or with the next change; the nft backend has no lock',
    };
  }
}
