/** What the kernel answers to a message of a batch; the whole batch is then undone. */
export type Errno =
  'ENOENT' | 'EEXIST' | 'EBUSY' | 'EMLINK' | 'EOPNOTSUPP' | 'ENFILE' | 'ENOTEMPTY' | 'EINVAL' | 'ELOOP';

const TEXTS: Readonly<Record<Errno, string>> = {
  ENOENT: 'No such file or directory',
  EEXIST: 'File exists',
  EBUSY: 'Device or resource busy',
  EMLINK: 'Too many links',
  EOPNOTSUPP: 'Operation not supported',
  ENFILE: 'Too many open files in system',
  ENOTEMPTY: 'Directory not empty',
  EINVAL: 'Invalid argument',
  ELOOP: 'Too many levels of symbolic links',
};

export class NfTablesError extends Error {
  readonly errno: Errno;
  /** Which operation of the transaction, counted from 0; -1 for none of them: the check of the whole. */
  readonly operation: number;

  constructor(errno: Errno, operation: number, what: string) {
    super(`${what}: ${TEXTS[errno]} (${errno})`);
    this.name = 'NfTablesError';
    this.errno = errno;
    this.operation = operation;
  }

  /** The words of strerror, as nft prints them after "Could not process rule:". */
  get text(): string {
    return TEXTS[this.errno];
  }
}

/** Refuses the operation at hand. */
export type Fail = (errno: Errno, what: string) => never;
