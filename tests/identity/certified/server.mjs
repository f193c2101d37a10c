// A provider for tests. Reads settings as JSON lines: the first starts it, each later one replaces
// it at the same address (other keys, say). One with claims alone changes what it says of everybody
// and leaves sessions and tokens as they are. Says its address after each.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

let handle = (request, response) => response.writeHead(503).end();
const server = createServer((request, response) => handle(request, response));
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

let claims = {};
for await (const line of createInterface({ input: process.stdin })) {
  const { keys, client, ...said } = JSON.parse(line);
  claims = said.claims;
  if (!keys) {
    console.log(`at ${issuer}`);
    continue;
  }
  const provider = new Provider(issuer, {
    clients: [client],
    jwks: { keys },
    cookies: { keys: ['for tests'] },
    claims: { openid: ['sub', 'groups'], profile: ['preferred_username'] },
    conformIdTokenClaims: false,
    features: { backchannelLogout: { enabled: true }, revocation: { enabled: true } },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, ...claims }) }),
    issueRefreshToken: () => true,
    rotateRefreshToken: true,
    pkce: { required: () => true },
    // Its own dispatcher talks to no private address, and the hub of these tests has one.
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  });
  provider.on('backchannel.error', (ctx, error) => console.error(error));
  provider.on('server_error', (ctx, error) => console.error(error));
  handle = provider.callback();
  console.log(`at ${issuer}`);
}
server.closeAllConnections();
server.close();
