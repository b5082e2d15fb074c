import { hostOrder } from './listing-key.ts';
import { typeNamed } from './datatypes.ts';
import { compareWords, isWide } from './linearize-value.ts';
import type { Element } from './statement.ts';

/**
 * Elements in the order in which nft lists them. Single values ascend; intervals ascend by where they begin;
 * concatenations are compared as one number whose least significant byte is the first of the key as it lies in
 * memory, so that the last byte of the last part counts most; concatenations with ranges stay as they are.
 * Source: nftables 1.0.6, src/mergesort.c (expr_msort_value, concat_expr_msort_value): a stable merge sort.
 */
export function inListingOrder(types: readonly string[], elements: readonly Element[]): readonly Element[] {
  if (elements.length < 2) return elements;
  if (types.length > 1) {
    const wide = elements.some(
      ({ key }) => key.kind === 'tuple' && key.parts.some((part, i) => isWide(typeNamed(types[i]!), part)),
    );
    if (wide) return elements;
  }
  const keyed = elements.map((element) => ({ element, key: hostOrder(types, element.key) }));
  for (let i = 1; i < keyed.length; i++) {
    if (compareWords(keyed[i - 1]!.key, keyed[i]!.key) <= 0) continue;
    return keyed.sort((a, b) => compareWords(a.key, b.key)).map(({ element }) => element);
  }
  return elements;
}
