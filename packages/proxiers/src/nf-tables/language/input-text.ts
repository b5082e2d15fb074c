import { formatAddress } from '../../netfilter/address.ts';
import { typeNamed, typesOf, valueText } from './datatypes.ts';
import { verdictText } from './listing-rule.ts';
import type {
  ChainSpec,
  Command,
  Element,
  Expression,
  Named,
  Rule,
  SetSpec,
  Statement,
  Value,
} from './statement.ts';

/**
 * Commands as kube-proxy writes them for `nft -f -`, one to a line.
 * Source: sigs.k8s.io/knftables objects.go (writeOperation), fake.go; pkg/proxy/nftables/proxier.go.
 * @throws Error for a comment with a double quote, which nft cannot read.
 */
export function commandText(command: Command): string {
  if (command.what === 'ruleset') {
    return command.family === undefined ? 'flush ruleset' : `flush ruleset ${command.family}`;
  }
  const where = `${command.family} ${command.table}`;
  const start = `${command.op} ${command.what} ${where}`;
  const creates = command.op === 'add' || command.op === 'create';
  switch (command.what) {
    case 'table':
      return creates && command.comment !== undefined
        ? `${start} { comment ${quoted(command.comment)} ; }`
        : start;
    case 'chain':
      if (command.op === 'flush') return `${start} ${command.chain}`;
      return 'target' in command
        ? `${start} ${namedText(command.target)}`
        : `${start} ${chainText(command.chain)}`;
    case 'set':
    case 'map':
      if (command.op === 'flush') return `${start} ${command.set}`;
      return 'target' in command
        ? `${start} ${namedText(command.target)}`
        : `${start} ${setText(command.set)}`;
    case 'element': {
      const elements = command.elements.map((element) =>
        elementInputText(creates ? element : { key: element.key }),
      );
      return `${start} ${command.set} { ${elements.join(', ')} }`;
    }
    case 'rule':
      if (command.op === 'replace') {
        return `${start} ${command.chain} handle ${command.handle} ${ruleInputText(command.rule)}`;
      }
      if (!('rule' in command)) {
        return `${start} ${command.chain} handle ${command.handle}`;
      }
      return `${start} ${command.chain} ${placeText(command.place)}${ruleInputText(command.rule)}`;
  }
}

/** A rule in kube-proxy's words: `mark set mark or 0x00004000`, `dnat ip addr . port to …`, `0 : a , 1 : b`. */
export function ruleInputText(rule: Rule): string {
  const text = rule.statements.map(statementText).join(' ');
  return rule.comment === undefined ? text : `${text} comment ${quoted(rule.comment)}`;
}

/** `key [comment "…"] [: data]` */
export function elementInputText(element: Element): string {
  let text = valueInputText(element.key);
  if (element.timeoutMs !== undefined) text += ` timeout ${element.timeoutMs / 1000}s`;
  if (element.comment !== undefined) text += ` comment ${quoted(element.comment)}`;
  return element.data === undefined ? text : `${text} : ${valueInputText(element.data)}`;
}

function chainText(chain: ChainSpec): string {
  if (chain.base === undefined && chain.comment === undefined) return chain.name;
  let text = `${chain.name} {`;
  if (chain.base !== undefined) {
    // The number, as older versions of nft refuse the names at some hooks.
    text += ` type ${chain.base.type} hook ${chain.base.hook} priority ${chain.base.priority} ;`;
    if (chain.base.policy === 'drop') text += ' policy drop ;';
  }
  if (chain.comment !== undefined) text += ` comment ${quoted(chain.comment)} ;`;
  return `${text} }`;
}

function setText(set: SetSpec): string {
  const data = set.data === undefined ? '' : ` : ${set.data.join(' . ')}`;
  let text = `${set.name} { type ${set.types.join(' . ')}${data} ;`;
  if (set.flags.length > 0) text += ` flags ${set.flags.join(',')} ;`;
  if (set.timeoutMs !== undefined) text += ` timeout ${set.timeoutMs / 1000}s ;`;
  if (set.gcIntervalMs !== undefined) text += ` gc-interval ${set.gcIntervalMs / 1000}s ;`;
  if (set.size !== undefined) text += ` size ${set.size} ;`;
  if (set.policy !== undefined) text += ` policy ${set.policy} ;`;
  if (set.comment !== undefined) text += ` comment ${quoted(set.comment)} ;`;
  return `${text} }`;
}

function namedText(target: Named): string {
  return target.handle === undefined ? target.name : `handle ${target.handle}`;
}

function placeText(place: { readonly kind: string; readonly value: number } | undefined): string {
  return place === undefined ? '' : `${place.kind} ${place.value} `;
}

function statementText(statement: Statement): string {
  switch (statement.kind) {
    case 'match': {
      const masked = statement.left.kind === 'binary';
      const operator =
        statement.operator !== '==' || statement.exactly || masked ? `${statement.operator} ` : '';
      const mark = typesOf(statement.left)[0] === 'mark';
      return `${expressionText(statement.left)} ${operator}${operandText(statement.right, mark)}`;
    }
    case 'verdict':
      return verdictText(statement.verdict);
    case 'vmap':
      return `${expressionText(statement.key)} vmap ${operandText(statement.map)}`;
    case 'mangle':
      return `${expressionText(statement.key)} set ${markText(statement.value)}`;
    case 'nat':
      return natText(statement);
    case 'masquerade':
    case 'redirect': {
      const port = statement.port ? ` to :${expressionText(statement.port)}` : '';
      return `${statement.kind}${port}${flagsText(statement.flags)}`;
    }
    case 'reject': {
      if (statement.type === undefined) return 'reject';
      return `reject with ${statement.type}${statement.code === undefined ? '' : ` type ${statement.code}`}`;
    }
    case 'counter':
      return 'counter';
    case 'dynset': {
      const timeout = statement.timeoutMs === undefined ? '' : ` timeout ${statement.timeoutMs / 1000}s`;
      return `${statement.operation} @${statement.set} { ${expressionText(statement.key)}${timeout} }`;
    }
  }
}

function natText(nat: Extract<Statement, { kind: 'nat' }>): string {
  const family = nat.family === undefined ? '' : ` ${nat.family}`;
  const both = nat.concatenated ? ' addr . port' : '';
  let address = nat.address === undefined ? '' : expressionText(nat.address);
  const value = nat.address?.kind === 'value' ? nat.address.value : undefined;
  if (nat.port !== undefined && value?.kind === 'address' && value.words.length === 4)
    address = `[${address}]`;
  const port = nat.port === undefined ? '' : `:${expressionText(nat.port)}`;
  return `${nat.type}${family}${both} to ${address}${port}${flagsText(nat.flags)}`;
}

function expressionText(expression: Expression): string {
  switch (expression.kind) {
    case 'payload':
      return `${expression.header} ${expression.field}`;
    case 'meta':
      return ['mark', 'iif', 'oif', 'iifname', 'oifname'].includes(expression.key)
        ? expression.key
        : `meta ${expression.key}`;
    case 'ct':
      return `ct ${expression.key}`;
    case 'fib':
      return `fib ${expression.flags.join(' . ')} ${expression.result}`;
    case 'numgen': {
      const offset = expression.offset === 0 ? '' : ` offset ${expression.offset}`;
      return `numgen ${expression.mode} mod ${expression.modulus}${offset}`;
    }
    case 'concat':
      return expression.parts.map(expressionText).join(' . ');
    case 'binary': {
      const word = expression.operator === '&' ? 'and' : expression.operator === '|' ? 'or' : 'xor';
      const mark = typesOf(expression)[0] === 'mark';
      return `${expressionText(expression.left)} ${word} ${operandText(expression.right, mark)}`;
    }
    case 'map':
      return `${expressionText(expression.key)} map ${operandText(expression.map)}`;
    case 'value':
      return valueInputText(expression.value);
  }
}

function markText(expression: Expression): string {
  return expression.kind === 'value' ? operandText(expression.value, true) : expressionText(expression);
}

/** Marks are hexadecimal, but for 0. */
function operandText(value: Value, mark = false): string {
  if (mark && value.kind === 'integer' && value.value !== 0) return valueText(typeNamed('mark'), value);
  return valueInputText(value);
}

function valueInputText(value: Value): string {
  switch (value.kind) {
    case 'integer':
      return String(value.value);
    case 'symbol':
      // Names of interfaces may hold what would be no word.
      return /^[A-Za-z_][A-Za-z0-9_-]*$/.test(value.text) ? value.text : quoted(value.text);
    case 'address':
      return formatAddress(value.words);
    case 'prefix':
      return `${formatAddress(value.words)}/${value.length}`;
    case 'range':
      return `${valueInputText(value.from)}-${valueInputText(value.to)}`;
    case 'tuple':
      return value.parts.map(valueInputText).join(' . ');
    case 'verdict':
      return verdictText(value.verdict);
    case 'flags':
      return value.names.join(',');
    case 'reference':
      return `@${value.name}`;
    case 'set':
      return `{ ${value.elements.map(elementInputText).join(' , ')} }`;
  }
}

function flagsText(flags: readonly string[]): string {
  return flags.length === 0 ? '' : ` ${flags.join(',')}`;
}

function quoted(text: string): string {
  if (!/["\n]/.test(text)) return `"${text}"`;
  throw new Error(`nft cannot read a text with a quote or a line break: ${JSON.stringify(text)}`);
}
