import type { Cluster } from '../kubernetes/cluster.ts';
import { commandText } from '../nf-tables/language/input-text.ts';
import type { ObjectNames } from './names.ts';
import type { RulesetOptions } from './settings.ts';
import type { SyncScript, SyncWork } from './sync-work.ts';
import { CommandSink } from './text-sink.ts';

/** What kube-proxy hands to `nft -f -`, line by line. */
export function* commandLines(
  cluster: Cluster,
  options: RulesetOptions,
  names: ObjectNames,
  script: SyncScript,
  work: SyncWork,
): Generator<string> {
  let lines: string[] = [];
  const isByLink = options.detector.kind === 'link';
  const sink = new CommandSink(cluster, options, names, (command) => {
    const line = commandText(command);
    lines.push(isByLink ? unquoted(line) : line);
  });
  for (const part of script.parts(work, sink)) {
    part();
    yield* lines;
    lines = [];
  }
}

/** kube-proxy puts no quotes around names of interfaces, which nft minds in no name that Linux takes. */
function unquoted(line: string): string {
  return line.replace(/iifname (!= )?"([^"]*)"/, 'iifname $1$2');
}
