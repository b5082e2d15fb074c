import { ruleText } from './rule-text.ts';
import type { Table } from './rules.ts';
import type { Sets } from './sets.ts';

/**
 * How kube-proxy links its chains to the built-in ones before the first pass and where a jump has gone: each jump
 * before those that are there, in this order. `iptables` in front of a line makes it a command.
 * Source: createAndLinkKubeChain, pkg/proxy/ipvs/proxier.go.
 */
export function* jumpCommands(tables: readonly Table[], sets: Sets): Generator<string> {
  for (const table of tables) {
    for (const jump of table.jumps) {
      yield `-t ${table.name} ${ruleText(jump, table, sets).replace(/^-A/, '-I')}`;
    }
  }
}
