import type { NatTarget } from '../../netfilter/nat.ts';
import { NAT_DESTINATION, NO_NAT, type Evaluator } from '../kernel/evaluator.ts';
import { addressOf } from '../kernel/memory-words.ts';
import { NAT_FULLY_RANDOM, NAT_PERSISTENT, NAT_RANDOM } from '../kernel/program.ts';

/** What the walk that an evaluator has just made asks of NAT; undefined for nothing. `words`: of an address. */
export function natRequest(evaluator: Evaluator, words: number): NatTarget | undefined {
  const { nat, natFlags, natPortMin, natPortMax } = evaluator;
  if (nat === NO_NAT) return undefined;
  const { masquerade, redirect, natHasAddress, natAddress, natAddressMax } = evaluator;
  const isDestination = nat === NAT_DESTINATION;
  return {
    kind: 'nat',
    name: masquerade ? 'MASQUERADE' : redirect ? 'REDIRECT' : isDestination ? 'DNAT' : 'SNAT',
    ...(natHasAddress && {
      addresses: [addressOf(natAddress, words), addressOf(natAddressMax, words)] as const,
    }),
    ...(natPortMin >= 0 && { ports: [natPortMin, natPortMax] as const }),
    random: (natFlags & NAT_RANDOM) !== 0,
    randomFully: (natFlags & NAT_FULLY_RANDOM) !== 0,
    persistent: (natFlags & NAT_PERSISTENT) !== 0,
  };
}
