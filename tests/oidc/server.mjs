// A provider of identities for the tests: panva's oidc-provider, whose pages log in
// whoever the test says. Ends when its standard input does.
//
//   node server.mjs <redirect URI>     prints its issuer and its clock once it listens
//
//   POST /control {"account": "dan", "claims": {…}, "amr": [...], "acr": "…", "cancel": true}
//   POST /control {"rotate": true}     other keys from now on

import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Provider } from 'oidc-provider';

const redirectUri = process.argv[2];
let current = {};
let provider;
let issuer;

function key() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

function begin() {
  provider = new Provider(issuer, {
    clients: [
      {
        client_id: 'cedargate',
        client_secret: 'secret+&%:=/',
        redirect_uris: [redirectUri],
        post_logout_redirect_uris: [new URL('/login', redirectUri).href],
        response_types: ['code'],
        grant_types: ['authorization_code'],
        require_auth_time: true,
      },
    ],
    jwks: { keys: [key()] },
    cookies: { keys: ['tests'] },
    pkce: { required: () => true },
    acrValues: ['urn:mfa'],
    claims: {
      openid: ['sub', 'acr', 'amr'],
      email: ['email', 'email_verified'],
      profile: ['name', 'groups', 'preferred_username'],
      auth_time: null,
    },
    conformIdTokenClaims: false,
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...current.claims }) }),
    // Whoever logs in agrees to everything.
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({
        clientId: ctx.oidc.client.clientId,
        accountId: ctx.oidc.session.accountId,
      });
      grant.addOIDCScope('openid email profile');
      grant.addOIDCClaims(['acr', 'amr', 'auth_time']);
      await grant.save();
      return grant;
    },
    ttl: { IdToken: 60, AuthorizationCode: 60, Interaction: 300, Session: 300, Grant: 300 },
  });
  provider.on('server_error', (_, error) => console.error(error));
}

async function body(request) {
  let text = '';
  for await (const part of request) text += part;
  return JSON.parse(text);
}

const server = createServer(async (request, response) => {
  try {
    if (request.url === '/control') {
      const { rotate, ...rest } = await body(request);
      if (rotate) begin();
      else current = rest;
      response.end();
    } else if (request.url.startsWith('/interaction/')) {
      const result = current.cancel
        ? { error: 'access_denied', error_description: 'cancelled' }
        : { login: { accountId: current.account, acr: current.acr, amr: current.amr } };
      await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
    } else {
      await provider.callback()(request, response);
    }
  } catch (error) {
    console.error(error);
    response.statusCode = 500;
    response.end(String(error));
  }
});

server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  begin();
  console.log(issuer, Date.now());
});
process.stdin.on('end', () => process.exit()).resume();
