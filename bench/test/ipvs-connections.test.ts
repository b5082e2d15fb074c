import test from 'ava';
import { probesPerLookup, takeConnectionsTurn } from '../src/ipvs-connections-turn.ts';

test('the table finds what the Map finds, over all entries and over a few, in about half a chain', (t) => {
  const entries = 1 << 15;
  for (const asked of [entries, 256]) {
    const turn = { bench: 'ipvs-connections', entries, asked, lookups: 1000 } as const;
    const table = takeConnectionsTurn({ ...turn, bits: 12 });
    const map = takeConnectionsTurn({ ...turn, bits: 'map' });
    t.true(table.result! > 0);
    t.is(table.result, map.result);
  }
  // One entry, and half of the others of a chain: 1 + connections / (2 x 4096).
  t.true(Math.abs(probesPerLookup(entries, 12, entries) - 5) < 0.1);
  t.true(Math.abs(probesPerLookup(entries, 15, entries) - 1.5) < 0.05);
});
