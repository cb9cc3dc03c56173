// A provider of identities for the tests: panva's oidc-provider, whose pages log in
// whoever the test says. Ends when its standard input does.
//
//   node server.mjs <redirect URI>     prints its issuer and its clock once it listens
//
//   POST /control {"account": "dan", "claims": {…}, "amr": [...], "acr": "…", "cancel": true}
//   POST /control {"rotate": true}     other keys from now on

import { Provider } from 'oidc-provider';
import { body, key, serve } from './serve.mjs';

const redirectUri = process.argv[2];
let current = {};
let provider;
let issuer;

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
    jwks: { keys: [key('RS256')] },
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

async function answer(request, response) {
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
}

serve(answer, (address) => {
  issuer = address;
  begin();
  console.log(issuer, Date.now());
});
