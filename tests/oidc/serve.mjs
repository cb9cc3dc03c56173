// What both servers of this folder need: a key that signs, the body of a request, and a port.

import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';

const KINDS = {
  RS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
};

export function key(alg) {
  const { privateKey } = generateKeyPairSync(...KINDS[alg]);
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg };
}

export async function body(request) {
  let text = '';
  for await (const part of request) text += part;
  return JSON.parse(text);
}

// Answers at a free port until standard input ends; `listening` is told its address.
export function serve(answer, listening) {
  const server = createServer(async (request, response) => {
    try {
      await answer(request, response);
    } catch (error) {
      console.error(error);
      response.statusCode = 500;
      response.end(String(error));
    }
  });
  server.listen(0, '127.0.0.1', () => listening(`http://127.0.0.1:${server.address().port}`));
  process.stdin.on('end', () => process.exit()).resume();
}
