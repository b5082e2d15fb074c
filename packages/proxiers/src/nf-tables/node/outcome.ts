import type { LiteralOutcome } from '../../netfilter/literal-node.ts';
import type { NumberDraw } from './number-source.ts';

/** What became of a packet. */
export interface NftOutcome extends LiteralOutcome {
  /** What `numgen random` drew on the way. */
  readonly draws: readonly NumberDraw[];
}
