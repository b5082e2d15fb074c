import { takeTurn, type TurnRequest } from './turn.ts';

// The whole of a child process: one request in, one result out.
const request = JSON.parse(process.argv[2]!) as TurnRequest;
process.stdout.write(`${JSON.stringify(await takeTurn(request))}\n`);
