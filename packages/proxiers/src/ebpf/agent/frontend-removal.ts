import { MAGLEV_SWAP } from './operations.ts';
import { NO_BACKENDS, type Frontend } from './frontends.ts';
import type { UpdateContext } from './frontend-update.ts';
import { AGENT_FRONTEND, SYSCALL_DELETE, SYSCALL_MISSING } from '../operations.ts';

/**
 * Take a frontend out of the maps: Maglev table, affinity pairs, orphan backends, slots from the master up, reverse
 * NAT, source ranges, and the wildcard with the last frontend of its address.
 * Source: deleteFrontend of pkg/loadbalancer/reconciler/bpf_reconciler.go.
 * @param last whether no other frontend shares its address.
 */
export function removeFrontend(frontend: Frontend, last: boolean, context: UpdateContext): void {
  const { registry, writer, ledger, stages, gracePeriodNs } = context;
  const { ids } = frontend.list;
  const { written, programmed, reversed, ranged, tabled } = frontend;
  stages.count(AGENT_FRONTEND, 1);
  if (frontend.maglev) stages.count(tabled ? MAGLEV_SWAP : SYSCALL_MISSING, 1);
  if (tabled) {
    stages.enact(() => writer.deleteTable(frontend));
    ledger.give('maglev', 1);
    stages.wait(gracePeriodNs);
  }
  const orphans: number[] = [];
  for (const id of ids) {
    const paired = frontend.affinityS > 0 && writer.hasPair(frontend, id);
    stages.count(paired ? SYSCALL_DELETE : SYSCALL_MISSING, 1);
    if (paired) ledger.give('affinityMatch', 1);
    if (!registry.release(id)) continue;
    stages.count(registry.written(id) === 0 ? SYSCALL_MISSING : SYSCALL_DELETE, 1);
    if (registry.written(id) !== 0) ledger.give('backends', 1);
    registry.setWritten(id, 0);
    orphans.push(id);
  }
  stages.enact(() => {
    for (const id of ids) writer.deletePair(frontend, id);
    for (const id of orphans) writer.deleteBackend(id);
  });
  stages.cut();

  stages.count(SYSCALL_DELETE, written + (programmed ? 1 : 0) + (reversed ? 1 : 0) + ranged);
  stages.count(SYSCALL_MISSING, (programmed ? 0 : 1) + (reversed ? 0 : 1));
  ledger.give('services', written + (programmed ? 1 : 0));
  ledger.give('reverseNat', reversed ? 1 : 0);
  ledger.give('sourceRanges', ranged);
  const wild = last && writer.hasWildcard(frontend) && !writer.needsWildcard(frontend);
  if (wild) {
    stages.count(SYSCALL_DELETE, 1);
    ledger.give('services', 1);
    writer.dropWildcard(frontend);
  }
  stages.enact(() => {
    for (let slot = 0; slot <= written; slot++) writer.deleteSlot(frontend, slot);
    writer.deleteReverse(frontend);
    for (let at = 0; at < ranged; at++) writer.deleteSourceRange(frontend, at);
    if (wild) writer.deleteWildcard(frontend);
  });
  stages.cut();
  Object.assign(frontend, {
    list: NO_BACKENDS,
    written: 0,
    programmed: false,
    reversed: false,
    tabled: false,
    ranged: 0,
  });
}
