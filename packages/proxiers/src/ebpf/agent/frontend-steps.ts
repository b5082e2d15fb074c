import { MAGLEV_CREATE, MAGLEV_FILL, MAGLEV_PERMUTATION, MAGLEV_PROBE, MAGLEV_SWAP } from './operations.ts';
import type { Frontend } from './frontends.ts';
import type { UpdateContext } from './frontend-update.ts';
import type { LedgerMap } from './map-ledger.ts';
import { SYSCALL_INSERT, SYSCALL_MISSING, SYSCALL_UPDATE } from '../operations.ts';

const FILL_BYTES = 65_536;

// What a frontend has besides its slots. Each function plans one step of an update, for the list that the frontend
// has by now, and returns the map that was full, or undefined.

/** Create the inner map, write it, put it into the outer one, which waits for a grace period before it returns. */
export function putTable(frontend: Frontend, context: UpdateContext): LedgerMap | undefined {
  const { stages, ledger, tables, writer, gracePeriodNs } = context;
  if (!frontend.maglev) return undefined;
  stages.cut();
  if (frontend.list.selectable === 0) {
    stages.count(frontend.tabled ? MAGLEV_SWAP : SYSCALL_MISSING, 1);
    if (!frontend.tabled) return undefined;
    frontend.tabled = false;
    ledger.give('maglev', 1);
    stages.enact(() => writer.deleteTable(frontend));
    stages.wait(gracePeriodNs);
    return undefined;
  }
  const { ids, probes, inARow, beside } = tables.of(frontend.list);
  context.besides += beside;
  stages.count(MAGLEV_PERMUTATION, inARow);
  stages.count(MAGLEV_PROBE, probes);
  stages.count(MAGLEV_CREATE, 1);
  stages.count(MAGLEV_FILL, (tables.tableSize * 4) / FILL_BYTES);
  if (!frontend.tabled && !ledger.take('maglev')) return 'maglev';
  frontend.tabled = true;
  stages.count(MAGLEV_SWAP, 1);
  stages.enact(() => writer.writeTable(frontend, ids));
  stages.wait(gracePeriodNs);
  return undefined;
}

/** All of them; a Service's ranges do not change, so none is an orphan. */
export function putSourceRanges(frontend: Frontend, context: UpdateContext): LedgerMap | undefined {
  const { stages, ledger, writer } = context;
  const before = frontend.ranged;
  const wanted = frontend.sourceRanges.length;
  stages.count(SYSCALL_UPDATE, before);
  while (frontend.ranged < wanted && ledger.take('sourceRanges')) frontend.ranged++;
  stages.count(SYSCALL_INSERT, frontend.ranged - before);
  const { ranged } = frontend;
  if (ranged > 0)
    stages.enact(() => {
      for (let at = 0; at < ranged; at++) writer.writeSourceRange(frontend, at);
    });
  return ranged < wanted ? 'sourceRanges' : undefined;
}

export function putReverse(frontend: Frontend, context: UpdateContext): LedgerMap | undefined {
  const { stages, ledger, writer } = context;
  if (!frontend.reversed && !ledger.take('reverseNat')) return 'reverseNat';
  stages.count(frontend.reversed ? SYSCALL_UPDATE : SYSCALL_INSERT, 1);
  frontend.reversed = true;
  stages.enact(() => writer.writeReverse(frontend));
  return undefined;
}

export function putMaster(frontend: Frontend, context: UpdateContext): LedgerMap | undefined {
  const { stages, ledger, writer } = context;
  const { selectable, ids } = frontend.list;
  if (!frontend.programmed && !ledger.take('services')) return 'services';
  stages.count(frontend.programmed ? SYSCALL_UPDATE : SYSCALL_INSERT, 1);
  frontend.programmed = true;
  stages.enact(() => writer.writeMaster(frontend, selectable, ids.length - selectable));
  return undefined;
}

export function putWildcard(frontend: Frontend, context: UpdateContext): LedgerMap | undefined {
  const { stages, ledger, writer } = context;
  if (!writer.hasWildcard(frontend)) return undefined;
  const isNew = writer.needsWildcard(frontend);
  if (isNew && !ledger.take('services')) return 'services';
  stages.count(isNew ? SYSCALL_INSERT : SYSCALL_UPDATE, 1);
  writer.claimWildcard(frontend);
  stages.enact(() => writer.writeWildcard(frontend));
  return undefined;
}
