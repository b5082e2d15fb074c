import { resultJsonSchema } from '../packages/scenarios/src/report/index.ts';
import { scenarioFields } from '../packages/scenarios/src/scenario/scenario.ts';

/** The pages of docs/reference that are made from the code. */
export function referencePages(): { readonly file: string; readonly text: string }[] {
  const rows = scenarioFields().map(
    ({ path, default: value, about }) => `| \`${path}\` | \`${value}\` | ${about.replaceAll('|', '\\|')} |`,
  );
  const fields = `# Scenario fields

What \`--set path=value\` accepts, made from the code by \`pnpm reference\`. Durations are written \`500ms\`, \`30s\`, \`2m\`.

| field | default | meaning |
| --- | --- | --- |
${rows.join('\n')}
`;
  return [
    { file: 'fields.md', text: fields },
    { file: 'result.schema.json', text: `${JSON.stringify(resultJsonSchema(), null, 2)}\n` },
  ];
}
