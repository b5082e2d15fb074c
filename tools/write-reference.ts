import { writeFileSync } from 'node:fs';
import { referencePages } from './reference-pages.ts';

// Writes docs/reference; a test holds the files against what this would write.
for (const { file, text } of referencePages())
  writeFileSync(new URL(`../docs/reference/${file}`, import.meta.url), text);
