import { ACK, FIN, RST } from '@vipsim/sim-core';

type Side = 'original' | 'reply';

/** The packets that end a recorded TCP connection, in their order: who sends, and which flags. Undefined: not known. */
export function closing(by: unknown): readonly (readonly [Side, number])[] | undefined {
  switch (by) {
    case 'client':
      return inTurn('original', 'reply');
    case 'server':
      return inTurn('reply', 'original');
    case 'rst':
      return [['original', RST]];
    case 'rst-server':
      return [['reply', RST]];
    default:
      return undefined;
  }
}

function inTurn(first: Side, other: Side): readonly (readonly [Side, number])[] {
  return [
    [first, FIN | ACK],
    [other, ACK],
    [other, FIN | ACK],
    [first, ACK],
  ];
}
