export interface InputFault {
  readonly file: string;
  /** 1-based; 0 when the fault is not in one document. */
  readonly document: number;
  /** 1-based; 0 when unknown. */
  readonly line: number;
  /** The object at fault, such as `Service default/web`; empty if it is not known. */
  readonly subject: string;
  /** Path of the field, such as `spec.ports[0].port`; empty for the whole document. */
  readonly field: string;
  readonly problem: string;
  readonly hint: string;
}

/** The input cannot be read as meant: where it is wrong, how, and what was wanted. */
export class InputError extends Error {
  override readonly name = 'InputError';
  readonly file: string;
  readonly document: number;
  readonly line: number;
  readonly field: string;
  readonly problem: string;
  readonly hint: string;

  constructor(fault: InputFault) {
    super(message(fault));
    this.file = fault.file;
    this.document = fault.document;
    this.line = fault.line;
    this.field = fault.field;
    this.problem = fault.problem;
    this.hint = fault.hint;
  }
}

function message(fault: InputFault): string {
  const place = fault.line > 0 ? `${fault.file}:${fault.line}` : fault.file;
  const subject = fault.subject === '' ? '' : `, ${fault.subject}`;
  const within = fault.document > 0 ? ` (document ${fault.document}${subject})` : '';
  const field = fault.field === '' ? '' : ` ${fault.field}`;
  const hint = fault.hint === '' ? '' : `; ${fault.hint}`;
  return printable(`${place}${within}${field}: ${fault.problem}${hint}`);
}

/** Names come from the input: what could steer a terminal is spelled out. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u{${character.codePointAt(0)!.toString(16)}}`;
  });
}
