/** What a transaction made the kernel do, exactly. Messages are those of the batch, begin and end not counted. */
export class TransactionCounts {
  tables = 0;
  newChains = 0;
  deletedChains = 0;
  newRules = 0;
  /** Messages that delete rules, and rules that they deleted. */
  ruleDeletions = 0;
  deletedRules = 0;
  newSets = 0;
  deletedSets = 0;
  /** Messages about elements, and the elements in them. */
  elementMessages = 0;
  newElements = 0;
  deletedElements = 0;
  expressions = 0;
  /** Places passed in tables' lists of sets while sets were looked up, named and made. */
  setListSteps = 0;
  /** Users of a map that were passed while another rule was bound to it. */
  bindingSteps = 0;
  /** Elements walked when a map was bound, or left with its rule. */
  elementsWalked = 0;
  /** Elements compared while elements were inserted or found. */
  elementSteps = 0;
  chainsValidated = 0;
  /** Chains that validation met again and did not enter. */
  chainsSkipped = 0;
  rulesValidated = 0;
  elementsValidated = 0;
  /** Chains whose rules were written anew, and the rules in them. */
  chainsRewritten = 0;
  rulesRewritten = 0;
  /** All chains of all tables: each gets its next generation published. */
  chainsPublished = 0;

  get messages(): number {
    return (
      this.tables +
      this.newChains +
      this.deletedChains +
      this.newRules +
      this.ruleDeletions +
      this.newSets +
      this.deletedSets +
      this.elementMessages
    );
  }
}
