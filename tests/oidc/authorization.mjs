// An authorization server for the tests: panva's oidc-provider, at which clients register by
// themselves and get signed access tokens for the resource that they name. Its pages log in
// whoever the test says. Ends when its standard input does.
//
//   node authorization.mjs             prints its issuer once it listens
//
//   POST /control {"account": "dan"}   who logs in from now on
//   GET /control                       what clients asked for: {"registered", "documents", "tokens": [{…}]}

import { Provider } from 'oidc-provider';
import { body, key, serve } from './serve.mjs';

// A client that is known by a document about itself, instead of registering. It is served
// here: on https, which this machine is not.
const CLIENT = 'https://client.example/driver.json';
const DOCUMENT = {
  client_id: CLIENT,
  client_name: 'driver',
  redirect_uris: ['http://127.0.0.1:9/callback'],
  grant_types: ['authorization_code'],
  response_types: ['code'],
  token_endpoint_auth_method: 'none',
};

const SCOPES = 'cedargate:read cedargate:write cedargate:destroy';
const told = { registered: 0, documents: 0, tokens: [] };
let account = 'nobody';
let provider;

function begin(issuer) {
  provider = new Provider(issuer, {
    clients: [],
    scopes: SCOPES.split(' '),
    jwks: { keys: [key('ES256')] },
    cookies: { keys: ['tests'] },
    pkce: { required: () => true },
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          scope: SCOPES,
          audience: resource,
          accessTokenTTL: 300,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
    fetch: async (url) => {
      if (String(url) !== CLIENT) return new Response('', { status: 404 });
      told.documents += 1;
      return Response.json(DOCUMENT);
    },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    // Whoever logs in agrees to everything.
    loadExistingGrant: async (ctx) => {
      const { client, session, params } = ctx.oidc;
      const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
      if (params.scope) {
        grant.addOIDCScope(params.scope);
        grant.addResourceScope(params.resource, params.scope);
      }
      await grant.save();
      return grant;
    },
    ttl: { AuthorizationCode: 60, Interaction: 300, Session: 300, Grant: 300 },
  });
  provider.on('registration_create.success', () => (told.registered += 1));
  provider.on('grant.success', (ctx) => {
    const { client, params } = ctx.oidc;
    told.tokens.push({
      client: client.clientId,
      resource: params.resource,
      verifier: Boolean(params.code_verifier),
      scope: ctx.body.scope,
    });
  });
  provider.on('server_error', (_, error) => console.error(error));
}

async function answer(request, response) {
  if (request.url === '/control' && request.method === 'POST') {
    ({ account } = await body(request));
    response.end();
  } else if (request.url === '/reg') {
    // Clients register with the scope that they need first; here that binds them to nothing.
    const { scope, ...client } = await body(request);
    request.body = client;
    await provider.callback()(request, response);
  } else if (request.url === '/control') {
    response.end(JSON.stringify(told));
  } else if (request.url.startsWith('/interaction/')) {
    // Of a client on the person's own machine a consent is always asked for.
    const result = { login: { accountId: account }, consent: {} };
    await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  } else {
    await provider.callback()(request, response);
  }
}

serve(answer, (issuer) => {
  begin(issuer);
  console.log(issuer);
});
