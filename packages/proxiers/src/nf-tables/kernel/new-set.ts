import { chooseBackend, type SetDescription } from './set-backend.ts';
import { BitmapSet } from './sets/bitmap.ts';
import { FixedHash } from './sets/fixed-hash.ts';
import { Pipapo } from './sets/pipapo.ts';
import { RangeTree } from './sets/rbtree.ts';
import { Rhash } from './sets/rhash.ts';
import type { SetArena } from './sets/set-arena.ts';

export type AnySet = Rhash | FixedHash | BitmapSet | RangeTree | Pipapo;

/** An empty set of the backend that the kernel would choose; undefined where it knows none. */
export function newSet(description: SetDescription, seed: number, arena: SetArena): AnySet | undefined {
  switch (chooseBackend(description)) {
    case 'rhash':
      return new Rhash(description, seed);
    case 'hash':
    case 'hash_fast':
      return new FixedHash(description, seed, arena);
    case 'bitmap':
      return new BitmapSet(description);
    case 'rbtree':
      return new RangeTree(description);
    case 'pipapo':
      return new Pipapo(description);
    case undefined:
      return undefined;
  }
}
