import { z } from 'zod';
import { ResultSchema } from './result.ts';

/** JSON Schema (draft 2020-12) of the result document. */
export function resultJsonSchema(): Record<string, unknown> {
  return {
    $id: 'urn:vipsim:result:1',
    title: 'vipsim result document, version 1',
    ...z.toJSONSchema(ResultSchema),
  };
}
