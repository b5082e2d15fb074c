/** Accepts connections. */
export const LISTENING = 0;
/** Shutting down: refuses new connections, serves those it has. */
export const CLOSING = 1;
/** The process is down, the pod's address answers: every packet is reset. */
export const DOWN = 2;
/** Nothing answers at the address. */
export const GONE = 3;
export type PodState = typeof LISTENING | typeof CLOSING | typeof DOWN | typeof GONE;

/**
 * What each pod's process and address do, over the whole run. It is known beforehand, because no mode can
 * change it: a packet that arrives later can be judged when it is sent.
 */
export class PodTimeline {
  readonly #changes = new Map<number, { readonly atNs: number; readonly state: PodState }[]>();

  /** From `atNs` on the pod is in `state`. Times of one pod must not fall. */
  set(pod: number, atNs: number, state: PodState): void {
    const changes = this.#changes.get(pod);
    if (changes === undefined) this.#changes.set(pod, [{ atNs, state }]);
    else changes.push({ atNs, state });
  }

  stateAt(pod: number, atNs: number): PodState {
    const changes = this.#changes.get(pod);
    if (changes === undefined) return LISTENING;
    let state: PodState = LISTENING;
    for (const change of changes) {
      if (change.atNs > atNs) break;
      state = change.state;
    }
    return state;
  }

  /** Whether a connection that the pod accepted at `fromNs` is still known to it at `toNs`. */
  keepsConnections(pod: number, fromNs: number, toNs: number): boolean {
    const changes = this.#changes.get(pod);
    if (changes === undefined) return true;
    return !changes.some(
      ({ atNs, state }) => atNs > fromNs && atNs <= toNs && (state === DOWN || state === GONE),
    );
  }

  /** Whether anything ever happens to the pod. */
  isSteady(pod: number): boolean {
    return !this.#changes.has(pod);
  }
}
